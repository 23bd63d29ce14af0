"""``dspex-replay``: requests of the journal again, in processes of their own.

The engine is here; ``dspex replay`` runs it too.
"""
