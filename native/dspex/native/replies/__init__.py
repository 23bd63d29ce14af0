"""Replies of language models, read as DSPy's adapters read them."""
