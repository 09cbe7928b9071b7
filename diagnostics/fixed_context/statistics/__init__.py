"""Gains on frozen contexts and what explains them; every statistic is over prompts."""
