"""Prompts, to DSPy's bytes."""
