"""A host world in a few lines. Numpy alone, so that worker processes start at once."""

import os
import time

import numpy as np


class Counter:
    """Two agents that count: episodes of three steps, every fourth of which is cut short. Numbers show where it is."""

    def __init__(self, **changes):
        self.changes, self.episode = changes, -1

    def reset(self, seed):
        self.seed, self.episode, self.t = seed, self.episode + 1, 0

    def step(self, action):
        self.t += 1
        short = self.episode % 4 == 3
        return float(action.sum()), self.t == 3 and not short, self.t == 2 and short, {"won": self.t == 3}

    def observe(self):
        seen = {
            "obs": np.full((2, 3), self.t, np.float32),
            "state": np.array([self.episode, self.seed % 1000]),
            "avail": np.ones((2, 2), bool),
            "alive": np.ones(2, bool),
        }
        return tuple((seen | {k: np.array(v) for k, v in self.changes.items()}).values())

    def close(self):
        pass


class Mortal(Counter):
    """Some of its episodes, known by their seeds, end its process at their second step, or hang there; every step takes a while."""

    def __init__(self, deadly=(), hanging=(), slow=0.0):
        super().__init__()
        self.deadly, self.hanging, self.slow = deadly, hanging, slow

    def step(self, action):
        time.sleep(60 if self.t == 1 and self.seed in self.hanging else self.slow)
        if self.t == 1 and self.seed in self.deadly:
            os._exit(1)
        return super().step(action)
