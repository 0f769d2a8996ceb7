"""The hub's decisions: events and ``now`` in, commands out.

Nothing here opens a socket, reads a clock, starts a process or looks into a payload; that is the shells' work.
"""
