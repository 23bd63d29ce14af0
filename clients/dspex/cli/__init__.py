"""The command line: ``dspex up``, ``demo``, ``call`` and ``doctor``.

May import every other room; starts the programs as child processes, never in its
own. Start with ``__main__``, then ``plan`` (which programs) and ``stack`` (their life).
"""
