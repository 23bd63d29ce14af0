"""The supervisor: one per host; starts, watches, replaces and scales its workers.

``planning.py`` decides, purely; ``fleet.py`` does it; ``service.py`` is what operators
and other supervisors talk to. It imports neither DSPy nor any other program.
"""
