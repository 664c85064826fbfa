"""Stand-ins for the real game: they speak SMAC's interface. Numpy alone, so that worker processes start at once."""

import os
import time

import numpy as np

SIZES = {"2m_vs_1z": (2, 7, 16, 26, 150), "3m": (3, 9, 30, 48, 60)}
LENGTH = 4


class Signals:
    """Every step each agent is shown a cue, and is paid for going north at +1, south at -1. Four steps all right are a victory.

    In every second episode the last agent dies after two steps. The state tells step and episode, and ends with the last actions.
    """

    def __init__(self, map_name, seed=None, continuing_episode=False, difficulty="7", **options):
        assert options.pop("obs_last_action") is False and options.pop("state_last_action") is True
        self.n, self.actions, self.obs, self.state, self.limit = SIZES[map_name]
        self.rng, self.tells, self.closed = np.random.default_rng(seed), continuing_episode, False
        self.episode = -1

    def get_env_info(self):
        names = ("n_agents", "n_actions", "obs_shape", "state_shape", "episode_limit")
        return dict(zip(names, (self.n, self.actions, self.obs, self.state, self.limit), strict=True))

    def reset(self):
        self.t, self.right, self.episode = 0, 0, self.episode + 1
        self.last = np.zeros((self.n, self.actions))
        self.cue = self.rng.choice([-1, 1], self.n)

    def step(self, actions):
        assert all(type(a) is int for a in actions) and len(actions) == self.n
        assert all(avail[a] for avail, a in zip(self.get_avail_actions(), actions, strict=True)), actions
        self.last = np.eye(self.actions)[actions]
        right = sum(a == (2 if cue > 0 else 3) for a, cue in zip(actions, self.cue, strict=True))
        lives = sum(self.lives(i) for i in range(self.n))
        self.t, self.right = self.t + 1, self.right + (right == lives)
        self.cue = self.rng.choice([-1, 1], self.n)
        return right / self.n, self.t == self.length(), {"battle_won": self.t == self.length() == self.right}

    def length(self):
        return LENGTH

    def lives(self, i):
        return not (self.episode % 2 and i == self.n - 1 and self.t >= 2)

    def get_obs(self):
        seen = np.zeros((self.n, self.obs), np.float32)
        for i in range(self.n):
            if self.lives(i):
                seen[i, :4], seen[i, 4], seen[i, 5] = 1, self.cue[i], self.t / self.limit
        return list(seen)

    def get_state(self):
        head = [self.t / 100, self.episode / 100, *self.cue]
        state = np.zeros(self.state)
        state[: len(head)] = head
        state[-self.last.size :] = self.last.ravel()
        return state

    def get_avail_actions(self):
        return [
            [0, 1, 1, 1, 1, 1] + [0] * (self.actions - 6) if self.lives(i) else [1] + [0] * (self.actions - 1)
            for i in range(self.n)
        ]

    def close(self):
        self.closed = True


class Endless(Signals):
    """Only the time ends it."""

    def step(self, actions):
        reward, _, info = super().step(actions)
        late = self.t >= self.limit
        return reward, late, info | ({"episode_limit": True} if late and self.tells else {})


class Silent(Endless):
    """The same without saying what ended it."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options | {"continuing_episode": False})


class Failing(Signals):
    """Raises at the second step of every episode."""

    def step(self, actions):
        if self.t == 1:
            raise RuntimeError("the battle\nis off")
        return super().step(actions)


class Wobbly(Signals):
    """Starts anew from within, as SMAC does when its connection to the game breaks: in the first episode."""

    def step(self, actions):
        if self.episode == 0 and self.t == 2:
            return 0, True, {}
        return super().step(actions)


class Slow(Signals):
    """Takes a millisecond per step, and has a helper process, as StarCraft is one to SMAC."""

    def step(self, actions):
        time.sleep(0.001)
        return super().step(actions)


class WithHelper(Signals):
    """Has a process of its own, as SMAC has StarCraft, which must not be left behind. The state ends with its number."""

    def __init__(self, *args, **options):
        import subprocess
        import sys

        super().__init__(*args, **options)
        self.helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def get_state(self):
        state = super().get_state()
        state[-1] = self.helper.pid
        return state

    def close(self):
        self.helper.kill()
        self.helper.wait()


class Larger(Signals):
    """Of other sizes than its map."""

    def get_env_info(self):
        return super().get_env_info() | {"obs_shape": self.obs + 1}


class Exiting(Signals):
    """Takes the whole process with it at once."""

    def reset(self):
        os._exit(3)


def impostor(map_name, seed):
    raise ImportError("no module named sc2")


class Simulated:
    """limbeck's simulator behind SMAC's interface."""

    def __init__(self, map_name, seed=0, continuing_episode=True, difficulty="7", **options):
        import jax

        from limbeck.envs.smac import SmacSettings, make

        self.env = make(map_name, SmacSettings(**options))
        self.key = jax.random.key(seed)
        self.begin, self.go, self.see = (jax.jit(f) for f in (self.env.reset, self.env.step, self.env.observe))

    def _chance(self):
        import jax

        self.key, key = jax.random.split(self.key)
        return key

    def get_env_info(self):
        spec = self.env.spec
        names = {"n_agents": spec.n_agents, "n_actions": spec.n_actions, "obs_shape": spec.obs_dim, "state_shape": spec.state_dim}
        return names | {"episode_limit": spec.episode_limit}

    def reset(self):
        self.now = self.begin(self._chance())
        self.seen = self.see(self.now)

    def step(self, actions):
        assert all(np.take_along_axis(np.asarray(self.seen.avail_actions), np.array(actions)[:, None], 1))
        self.now, outcome = self.go(self.now, np.array(actions), self._chance())
        self.seen = self.see(self.now)
        info = {"battle_won": bool(outcome.info["won"])} | ({"episode_limit": True} if outcome.truncated else {})
        return float(outcome.reward), bool(outcome.terminated | outcome.truncated), info

    def get_obs(self):
        return list(np.asarray(self.seen.obs))

    def get_state(self):
        return np.asarray(self.seen.state)

    def get_avail_actions(self):
        return np.asarray(self.seen.avail_actions).astype(int).tolist()

    def close(self):
        pass
