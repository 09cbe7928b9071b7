"""Benchmarks of a trained student, run by EleutherAI's lm-evaluation-harness and gathered into one table."""
