"""The router: decides who answers a request and follows it to its end.

Imports the contracts, the bus and the pure native library; never DSPy. Start with
``choosing`` (the decision, pure), ``targets`` (who is there, pure), then
``dispatching`` (one request) and ``service`` (the program).
"""
