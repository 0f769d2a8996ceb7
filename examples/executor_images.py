"""Blur images and find their edges with a ProcessPoolExecutor.

    python examples/executor_images.py [width in pixels]

Needs numpy. Each image is a few megabytes: arrays of that size reach the workers, and come back, through shared memory.
"""

import sys
import time

import numpy as np

from scalepool.concurrent.futures import ProcessPoolExecutor


def landscape(seed, width):
    """Return a made-up height field: waves of many lengths and directions, with some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:width, :width] / width
    waves = (np.sin(x * a + y * b + c) / (abs(a) + abs(b)) for a, b, c in random.normal(0, 30, (12, 3)))
    return sum(waves) + random.normal(0, 0.01, (width, width))


def blur(image, radius):
    """Average over a square around each pixel, by running sums along both axes."""
    for axis in (0, 1):
        size = 2 * radius + 1
        padding = [(radius + 1, radius) if n == axis else (0, 0) for n in (0, 1)]
        sums = np.cumsum(np.pad(image, padding, "edge"), axis)
        ends, starts = (sums.take(range(first, first + image.shape[axis]), axis) for first in (size, 0))
        image = (ends - starts) / size
    return image


def edges(image):
    """Return where a blurred image is steep: twenty blurs of growing width, the steepest of all at each pixel."""
    steepest = np.zeros_like(image)
    for radius in range(1, 21):
        down, right = np.gradient(blur(image, radius))
        np.maximum(steepest, np.hypot(down, right), out=steepest)
    return steepest


width = int(sys.argv[1]) if len(sys.argv) > 1 else 600
images = [landscape(seed, width) for seed in range(8)]

started = time.perf_counter()
serial = list(map(edges, images))
serial_s = time.perf_counter() - started

started = time.perf_counter()
with ProcessPoolExecutor() as executor:
    parallel = list(executor.map(edges, images))
parallel_s = time.perf_counter() - started

if not all(map(np.array_equal, serial, parallel)):
    sys.exit("the results differ")
print(f"{len(images)} images of {width} x {width} pixels, {images[0].nbytes / 1e6:.1f} MB each")
print(f"serial {serial_s:.2f} s, ProcessPoolExecutor {parallel_s:.2f} s, results equal")
