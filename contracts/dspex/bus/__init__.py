"""How things are said: connect, publish, subscribe, request, serve, heartbeat.

The only room that imports the NATS client; imports contracts and OpenTelemetry.
Start with ``core`` (the interface), then ``connection`` (the real bus),
``testing`` (its in-memory twin), ``serving`` and ``answering``.
"""
