"""What needs no DSPy: signatures, values, prompts, replies, schemas, metrics.

A pure library that the router and the workers may import; it imports ``contracts``,
never DSPy and never the bus. Start with ``compiling``: it turns a signature into
what ``checking`` and the renderers read.
"""
