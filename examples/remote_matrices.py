"""A matrix product in blocks, by remote functions that need each other's results.

    python examples/remote_matrices.py [width of a block] [blocks per side]

Needs numpy. Each block is made once, in a worker, and read by all tasks that need it without a copy. All calls are
submitted at once, and each starts when what it needs is there: nothing here waits before the result.
"""

import sys
import time

import numpy as np

import scalepool

WIDTH = int(sys.argv[1]) if len(sys.argv) > 1 else 400
SIDE = range(int(sys.argv[2]) if len(sys.argv) > 2 else 3)


@scalepool.remote
def block(seed):
    return np.random.default_rng(seed).random((WIDTH, WIDTH))


@scalepool.remote
def multiply(left, right):
    return left @ right


@scalepool.remote
def add(one, other):
    return one + other


def tree_sum(refs):
    """Add up neighbours, then neighbouring sums, and so on."""
    while len(refs) > 1:
        even = len(refs) // 2 * 2
        refs = add.map(refs[0:even:2], refs[1:even:2]) + refs[even:]
    return refs[0]


start = time.perf_counter()
left = [[block.function(1000 + 10 * row + k) for k in SIDE] for row in SIDE]
right = [[block.function(2000 + 10 * k + column) for column in SIDE] for k in SIDE]
serial = np.block(left) @ np.block(right)
serial_s = time.perf_counter() - start

start = time.perf_counter()
left = [[block.remote(1000 + 10 * row + k) for k in SIDE] for row in SIDE]
right = [[block.remote(2000 + 10 * k + column) for column in SIDE] for k in SIDE]
product = [
    [tree_sum([multiply.remote(left[row][k], right[k][column]) for k in SIDE]) for column in SIDE] for row in SIDE
]
blocked = np.block(scalepool.get(product))
scalepool_s = time.perf_counter() - start

equal = np.allclose(serial, blocked)
print(f"serial {serial_s:.2f} s, remote {scalepool_s:.2f} s, results {'equal' if equal else 'DIFFER'}")
