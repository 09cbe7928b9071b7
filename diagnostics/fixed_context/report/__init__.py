"""Figures and the offline page of one gain file and its analyses."""
