"""What is said on the bus: subjects, operations, envelopes, failures, encodings.

Imports msgspec and nothing that does I/O. Start with ``subjects`` and ``catalog``.
"""
