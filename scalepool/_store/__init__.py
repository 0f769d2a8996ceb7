"""Shared memory of this machine: segments for large objects, views on them, and the flight record of a worker.

``layout`` is arithmetic; ``files`` is the border to the operating system; ``recycle`` decides which idle segments are
kept; ``segments`` owns the memory of one process; ``mapping`` reads what others own, through ``windows`` that are used
again, and with an eye on ``forks``; ``flight`` stands alone.
"""
