"""``dspex-state``: what must outlive every process, on JetStream.

It answers the operations on sessions, jobs and programs; it runs none of them.
"""
