"""Links between the hub and its peers; the only package that imports zmq.

On one host they are Unix sockets (``unix``), between hosts they are ZeroMQ sockets (``zeromq``); ``channel`` says what
both offer, and opens either.
"""
