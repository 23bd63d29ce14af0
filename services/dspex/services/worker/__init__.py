"""One process of one pool: runs DSPy programs asked for on the bus.

The only package that imports DSPy. It imports ``contracts``, ``bus`` and the pure
part of ``native``. Start with ``service``; ``signatures`` makes DSPy's signatures.
"""
