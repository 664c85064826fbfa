"""Stand-ins for PettingZoo's and Gymnasium's environments, in their languages. Numpy alone, so that workers start at once."""

import os
from pathlib import Path

import numpy as np


class Space:
    def __init__(self, **facts):
        self.__dict__.update(facts)


class Discrete(Space):
    pass


class Box(Space):
    pass


class Dict(Space):
    pass


class Tuple(Space):
    pass


class MultiDiscrete(Space):
    pass


class Post:
    """Every step two agents are shown a cue, and are paid 1 for the action after it: the first of theirs at -1, the second at +1.

    The scout sees two numbers and calls its three actions 1 to 3; its mask, in the infos, never leaves it the last. The guard sees
    a square of four and has four actions; its mask, in the observation, leaves it the last only at odd steps, and pays nothing.
    The scout leaves after `leaves` steps of every second episode. After `max_cycles` time is up, or the world ends (`ends`).
    """

    possible_agents = ("scout", "guard")

    def __init__(self, max_cycles=4, leaves=2, ends="time", crash="", victory=False):
        self.max_cycles, self.leaves, self.ends, self.crash, self.victory = max_cycles, leaves, ends, crash, victory
        self.episode, self.agents, self.closed = -1, [], False

    def observation_space(self, agent):
        square = Dict(spaces={"observation": Box(shape=(2, 2)), "action_mask": Box(shape=(4,))})
        return Box(shape=(2,)) if agent == "scout" else square

    def action_space(self, agent):
        return Discrete(n=3, start=1) if agent == "scout" else Discrete(n=4)

    def reset(self, seed=None, options=None):
        self.rng, self.seed = np.random.default_rng(seed), seed
        self.t, self.episode, self.agents = 0, self.episode + 1, list(self.possible_agents)
        return self._show(self.agents)

    def step(self, actions):
        assert set(actions) == set(self.agents) and all(type(a) is int for a in actions.values())
        assert actions.get("scout", 1) in (1, 2) and (actions.get("guard", 0) < 3 or self.t % 2)
        if self.crash and self.t == 1 and not Path(self.crash).exists():
            Path(self.crash).touch()
            os._exit(3)
        acted, right = self.agents, {"scout": 1 + (self.cue["scout"] > 0), "guard": 0 + (self.cue["guard"] > 0)}
        self.t += 1
        over = self.t == self.max_cycles
        gone = {agent: agent == "scout" and self.episode % 2 == 1 and self.t == self.leaves for agent in acted}
        ended = {agent: gone[agent] or (over and self.ends == "world") for agent in acted}
        late = {agent: over and self.ends == "time" for agent in acted}
        self.agents = [agent for agent in acted if not ended[agent] and not late[agent]]
        seen, infos = self._show(acted)
        return seen, {agent: float(actions[agent] == right[agent]) for agent in acted}, ended, late, infos

    def _show(self, agents):
        self.cue = {agent: int(self.rng.choice([-1, 1])) for agent in self.possible_agents}
        mask = np.array([1, 1, 1, self.t % 2], np.int8)
        square = np.array([[self.cue["guard"], self.t / 10], [0, 1]], np.float64)
        seen = {"scout": np.array([self.cue["scout"], self.t / 10], np.float32)}
        seen["guard"] = {"observation": square, "action_mask": mask}
        infos = {"scout": {"action_mask": [1, 1, 0]}, "guard": {"rescued": self.victory and self.t == self.max_cycles}}
        return {agent: seen[agent] for agent in agents}, {agent: infos[agent] for agent in agents}

    def state(self):
        return np.array([[self.t, self.episode % 2, *self.cue.values()]])

    def close(self):
        self.closed = True


parallel_env = Post


class Stateless(Post):
    """PettingZoo's base class has the method, but not more."""

    def state(self):
        raise NotImplementedError("state() method has not been implemented")


class Worded(Post):
    def state(self):
        return {"where": "here"}


class Endless(Post):
    """Says nothing about its time limit."""

    def __init__(self):
        super().__init__(max_cycles=10**9)
        self.many, self.max_cycles = self.max_cycles, None


class Steering(Post):
    def action_space(self, agent):
        return Box(shape=(2,))


class Reading(Post):
    def observation_space(self, agent):
        return Dict(spaces={"words": Box(shape=(2,))})


class Counting(Post):
    def observation_space(self, agent):
        return MultiDiscrete(nvec=[2, 2])


class Bound(Post):
    """Leaves the guard nothing to do at its second decision."""

    def _show(self, agents):
        seen, infos = super()._show(agents)
        if self.t == 1:
            seen["guard"]["action_mask"] = np.zeros(4)
        return seen, infos


class Wrapped:
    """As PettingZoo's and Gymnasium's wrappers are: what it does not have is asked of what it wraps, private names apart."""

    def __init__(self, **options):
        self.env = Post(**options)

    def __getattr__(self, name):
        if name.startswith("_") or name == "max_cycles":
            raise AttributeError(name)
        return getattr(self.env, name)


class Orchard:
    """Two agents of different sizes pick fruit together when both say 1. One flag says that all is picked, or that time is up."""

    def __init__(self, fruit=2, max_steps=6, masks=False, flags="one", space=None):
        self.fruit, self.max_steps, self.masks, self.flags = fruit, max_steps, masks, flags
        self.observation_space = space or Tuple(spaces=(Box(shape=(2,)), Box(shape=(3,))))
        self.action_space = (Discrete(n=2), Discrete(n=3))

    @property
    def unwrapped(self):
        return self

    def reset(self, *, seed=None, options=None):
        self.t, self.left = 0, self.fruit
        return self._show(), self._info()

    def step(self, actions):
        assert len(actions) == 2 and all(type(a) is int for a in actions)
        self.t += 1
        picked = self.left > 0 and list(actions) == [1, 1]
        self.left -= picked
        over = self.left == 0 or self.t >= self.max_steps
        ends = {"one": (over, False), "each": ([self.left == 0] * 2, [self.t >= self.max_steps] * 2)}[self.flags]
        return self._show(), [1.0 * picked, 0.5 * picked], *ends, self._info()

    def _show(self):
        return np.array([self.left, self.t], np.float32), np.array([self.left, self.t, 1])

    def _info(self):
        return {"picked": self.left == 0} | ({"action_mask": [[1, 1], [1, 1, 0]]} if self.masks else {})


def one_space_for_all(**options):
    return Orchard(space=Box(shape=(5,)), **options)


thing = 3
