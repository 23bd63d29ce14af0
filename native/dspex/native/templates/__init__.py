"""Liquid templates, with everything counted."""
