"""Evolution strategies: learn to balance a pole on a cart by trying many random changes of a policy at once.

    python examples/evolution_strategies.py [generations] [directions per generation]

Needs numpy. The policy's weights are put into shared memory once per generation; each task tries a direction and its
opposite (mirrored sampling) in an environment of its own, and returns two rewards and the seed, from which the
direction can be made again: no task sends back an array.
"""

import sys

import numpy as np

import scalepool

GENERATIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
DIRECTIONS = int(sys.argv[2]) if len(sys.argv) > 2 else 16
STEPS, SPREAD, RATE, STARTS = 300, 0.3, 0.5, 4


def balance(policy, seed):
    """Return for how many steps of 20 ms the pole stays up, at most STEPS: physics after Barto, Sutton, Anderson."""
    x, v, angle, spin = np.random.default_rng(seed).uniform(-0.1, 0.1, 4)
    for step in range(STEPS):
        force = 10.0 * np.tanh(policy @ np.array([x, v, angle, spin]))
        sin, cos = np.sin(angle), np.cos(angle)
        push = (force + 0.05 * spin * spin * sin) / 1.1
        turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos * cos / 1.1))
        x, v = x + 0.02 * v, v + 0.02 * (push - 0.05 * turn * cos / 1.1)
        angle, spin = angle + 0.02 * spin, spin + 0.02 * turn
        if abs(x) > 2.4 or abs(angle) > 0.21:
            return step
    return STEPS


def direction(seed):
    return np.random.default_rng(seed).standard_normal(4)


@scalepool.remote
def explore(policy, seed):
    change = SPREAD * direction(seed)
    starts = range(seed * STARTS, (seed + 1) * STARTS)
    return seed, *(np.mean([balance(policy + sign * change, start) for start in starts]) for sign in (1, -1))


policy = np.zeros(4)
for generation in range(1, GENERATIONS + 1):
    shared = scalepool.put(policy)
    seeds = range(generation * DIRECTIONS, (generation + 1) * DIRECTIONS)
    found = scalepool.get([explore.remote(shared, seed) for seed in seeds])
    spread = np.std([reward for _, *both in found for reward in both]) or 1.0
    policy = policy + RATE * sum((up - down) / spread * direction(seed) for seed, up, down in found) / DIRECTIONS
    if generation == 1 or generation % 5 == 0:
        reward = np.mean([balance(policy, seed) for seed in range(1_000_000, 1_000_010)])
        print(f"generation {generation}: the pole stays up for {reward:.0f} of {STEPS} steps")
