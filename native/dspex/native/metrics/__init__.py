"""Metrics: what they are, and the table of them."""
