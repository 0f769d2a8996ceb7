"""The two examples of Ray's talks: tasks that need each other's arrays, and a counter that lives in a process.

    python examples/ray_talk.py [size of the arrays] [increments]

Needs numpy. A function becomes a task, a class an actor. Calls return references at once; a reference given to the next
call stands for its value, which stays in shared memory: the arrays never come to this process, only their sum does.
"""

import sys
import time

import numpy as np

import scalepool

SIZE = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
INCREMENTS = int(sys.argv[2]) if len(sys.argv) > 2 else 2000


@scalepool.remote
def make(seed):
    return np.random.default_rng(seed).random(SIZE)


@scalepool.remote
def add(one, other):
    return one + other


@scalepool.remote
class Counter:
    """Keeps a number in a process of its own."""

    def __init__(self):
        self.value = 0

    def increment(self):
        """Add one, and return the sum."""
        self.value += 1
        return self.value


start = time.perf_counter()
serial = float((make.function(1) + make.function(2) + make.function(3)).sum())
serial_s = time.perf_counter() - start

scalepool.init()
start = time.perf_counter()
left, middle, right = make.map([1, 2, 3])
total = add.remote(add.remote(left, middle), right)
remote = float(scalepool.get(total).sum())
remote_s = time.perf_counter() - start

counters = [Counter.remote() for _ in range(2)]
start = time.perf_counter()
refs = [counter.increment.remote() for counter in counters for _ in range(INCREMENTS)]
in_order = scalepool.get(refs) == [*range(1, INCREMENTS + 1)] * 2
calls_s = time.perf_counter() - start

equal = np.isclose(serial, remote) and in_order
print(f"serial {serial_s:.2f} s, remote {remote_s:.2f} s, results {'equal' if equal else 'DIFFER'}")
print(f"2 counters: {2 * INCREMENTS} increments in order, {2 * INCREMENTS / calls_s:,.0f} calls/s")
