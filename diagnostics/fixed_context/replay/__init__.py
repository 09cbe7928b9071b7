"""Selectors on saved scores, offline."""
