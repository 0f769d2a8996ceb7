"""Add up many arrays in a tree: each sum begins as soon as its two halves are there, wherever they were made.

    python examples/tree_reduce.py [leaves] [numbers in each]

Needs numpy. The whole tree is submitted at once; nothing waits here before the last sum, and what has been added up is
freed on the way, so that memory holds a few arrays of the tree, not all of them.
"""

import sys
import time

import numpy as np

import scalepool

LEAVES = int(sys.argv[1]) if len(sys.argv) > 1 else 64
SIZE = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000


@scalepool.remote
def leaf(seed):
    """Simulate something: a random walk."""
    return np.random.default_rng(seed).standard_normal(SIZE).cumsum()


@scalepool.remote
def add(one, other):
    return one + other


def tree(refs):
    levels = 0
    while len(refs) > 1:
        even = len(refs) // 2 * 2
        refs = add.map(refs[0:even:2], refs[1:even:2]) + refs[even:]
        levels += 1
    return refs[0], levels


start = time.perf_counter()
serial = sum(leaf.function(seed) for seed in range(LEAVES))
serial_s = time.perf_counter() - start

scalepool.init()
start = time.perf_counter()
total, levels = tree(leaf.map(range(LEAVES)))
reduced = scalepool.get(total)
remote_s = time.perf_counter() - start

equal = np.allclose(serial, reduced)
print(f"serial {serial_s:.2f} s, remote {remote_s:.2f} s, results {'equal' if equal else 'DIFFER'}")
print(f"{LEAVES} walks added up in {levels} levels; the mean walk ends at {reduced[-1] / LEAVES:+.1f}")
