"""Train a classifier of handwritten digits with a parameter server: an actor has the model, others make its gradients.

    python examples/parameter_server.py [rounds] [actors that compute]

Needs scikit-learn, for its digits. The model is a softmax regression in numpy. Each worker has a part of the images. As
soon as its gradient is there the server applies it, and the worker goes on with the weights of that moment.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

import scalepool

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 150
WORKERS = int(sys.argv[2]) if len(sys.argv) > 2 else 2
TRAINED = 1200  # of 1797 images; the others are the test


@scalepool.remote
class ParameterServer:
    """Has the weights of the model."""

    def __init__(self, shape, rate):
        self.weights, self.rate = np.zeros(shape), rate

    def apply(self, gradient):
        """Go one step down, and return the new weights."""
        self.weights -= self.rate * gradient
        return self.weights


@scalepool.remote
class Worker:
    """Has some of the images."""

    def __init__(self, images, labels):
        self.images, self.wanted = images, np.eye(10)[labels]

    def gradient(self, weights):
        """Return that of the cross entropy, over its images."""
        scores = self.images @ weights
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return self.images.T @ (odds / odds.sum(axis=1, keepdims=True) - self.wanted) / len(self.images)


digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, labels = np.c_[digits.data / 16, np.ones(len(order))][order], digits.target[order]

server = ParameterServer.remote((images.shape[1], 10), 1.0 / WORKERS)
parts = np.array_split(np.arange(TRAINED), WORKERS)
workers = [Worker.remote(images[part], labels[part]) for part in parts]
weights = scalepool.put(np.zeros((images.shape[1], 10)))
busy = {worker.gradient.remote(weights): worker for worker in workers}
for number in range(1, ROUNDS * WORKERS + 1):
    (gradient,), _ = scalepool.wait(list(busy))
    worker = busy.pop(gradient)
    weights = server.apply.remote(gradient)  # neither passes through this process
    busy[worker.gradient.remote(weights)] = worker
    if number % (ROUNDS * WORKERS // 5) == 0:
        found = (images[TRAINED:] @ scalepool.get(weights)).argmax(axis=1)
        right = (found == labels[TRAINED:]).mean()
        print(f"{number} gradients of {WORKERS} workers: {right:.1%} of the unseen digits recognised")
