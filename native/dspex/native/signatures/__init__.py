"""Signatures: read, made ready once and kept, described."""
