"""What `mpe2` does in the particle worlds: recorded for tests/test_mpe.py, which runs without it; or compared at length.

pip install mpe2==1.1.1                                  not into limbeck's own environment: it brings pygame
python reproduce/mpe_reference.py                        records episodes into tests/data/mpe_reference.npz
python reproduce/mpe_reference.py --check 20000          plays so many steps of each world and prints the largest differences

Recorded are the starts, the actions, the team's reward and a digest of `mpe2`'s state in every step (one number, see `digest`), and
the whole states of the first episodes. Starts are what 32 bits can hold. In every second episode the agents of simple_spread start
in a crowd, so that they push each other. Episodes are left out in which two come so close to the distance of a collision that
rounding could decide.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from limbeck.envs import registry
from limbeck.envs.mpe.spread import REACH, SpreadState
from limbeck.envs.mpe.talk import TalkState
from limbeck.errors import in_one_line

OUT = Path(__file__).parents[1] / "tests" / "data" / "mpe_reference.npz"
CROWD = 0.25
"""half the side of the square that a crowd starts in"""
NARROW = 1e-5
"""how far from the distance of a collision everybody stays"""


@dataclasses.dataclass(frozen=True)
class Case:
    """A world and how much of it is recorded."""

    module: str
    world: str
    theirs: dict[str, Any]
    ours: dict[str, Any]
    episodes: int
    whole: int
    """episodes whose states are recorded in full"""


CASES = {
    "spread": Case("simple_spread_v3", "mpe/simple_spread", {}, {}, 48, 2),
    "spread_5": Case(
        "simple_spread_v3",
        "mpe/simple_spread",
        {"N": 5, "local_ratio": 0.8, "max_cycles": 15},
        {"agents": 5, "local_ratio": 0.8, "episode_limit": 15},
        16,
        1,
    ),
    "reference": Case("simple_reference_v3", "mpe/simple_reference", {}, {}, 32, 2),
    "speaker_listener": Case("simple_speaker_listener_v4", "mpe/simple_speaker_listener", {}, {}, 32, 2),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the script can be told."""

    check: int = 0
    """steps of each world to compare; 0: record"""
    out: Path = OUT
    """where to"""
    seed: int = 0
    """of starts and actions"""


def main(options: Options) -> None:
    chance = np.random.default_rng(options.seed)
    if options.check:
        for name, case in CASES.items():
            compare(name, case, options.check, chance)
        return
    recorded = {f"{name}.{key}": array for name, case in CASES.items() for key, array in record(case, chance).items()}
    np.savez_compressed(options.out, allow_pickle=False, **recorded)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.1f} kB")


def digest(state: np.ndarray) -> np.ndarray:
    """A number for every state [..., S]: the sum of its entries, each with a weight of its own."""
    return state @ np.cos(np.arange(state.shape[-1]))


class Theirs:
    """A world of `mpe2`, opened up."""

    def __init__(self, case: Case):
        self.env = importlib.import_module(f"mpe2.{case.module}").parallel_env(**case.theirs)
        self.raw = self.env.aec_env.unwrapped

    def begin(self, chance: np.random.Generator, crowd: bool) -> None:
        """A new episode, at places that 32 bits can hold."""
        self.env.reset(seed=int(chance.integers(2**31)))
        for entity in self.raw.world.entities:
            entity.state.p_pos = np.float32(entity.state.p_pos * (CROWD if crowd and entity.collide else 1)).astype(float)

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        """The sum of the agents' rewards, and whether time is up."""
        _, rewards, terminated, truncated, _ = self.env.step(dict(zip(self.env.possible_agents, action.tolist(), strict=True)))
        assert not any(terminated.values()) and len(set(truncated.values())) == 1
        return sum(rewards.values()), any(truncated.values())

    def sizes(self) -> list[int]:
        """How many actions each agent has."""
        return [int(self.env.action_space(agent).n) for agent in self.env.possible_agents]

    def snapshot(self) -> dict[str, np.ndarray]:
        """Places, velocities, landmarks, goals and words, as our states have them."""
        agents, landmarks = self.raw.world.agents, self.raw.world.landmarks
        movers = [agent for agent in agents if agent.movable]
        speakers = [agent for agent in agents if not agent.silent]
        return {
            "place": np.array([each.state.p_pos for each in movers]),
            "velocity": np.array([each.state.p_vel for each in movers]),
            "landmarks": np.array([each.state.p_pos for each in landmarks]),
            "goal": np.array([landmarks.index(each.goal_b) for each in speakers], int),
            "word": np.array([int(each.state.c.argmax()) if each.state.c.any() else -1 for each in speakers], int),
        }

    def narrow(self) -> bool:
        """Whether two are almost at the distance where a collision begins."""
        place = np.array([each.state.p_pos for each in self.raw.world.agents if each.collide]).reshape(-1, 2)
        distance = np.sqrt(((place[:, None] - place[None]) ** 2).sum(-1))
        return bool((np.abs(distance - REACH) < NARROW).any())


def episode(theirs: Theirs, chance: np.random.Generator, crowd: bool) -> dict[str, np.ndarray] | None:
    """Random play to the time limit: [T + 1] states and snapshots, [T] actions and rewards; None where rounding could decide."""
    theirs.begin(chance, crowd)
    sizes, over = theirs.sizes(), False
    snapshots, states, actions, rewards, narrow = [theirs.snapshot()], [theirs.raw.state()], [], [], theirs.narrow()
    while not over:
        action = chance.integers(sizes)
        reward, over = theirs.step(action)
        narrow |= theirs.narrow()
        snapshots.append(theirs.snapshot())
        states.append(theirs.raw.state())
        actions.append(action)
        rewards.append(reward)
    moments = {key: np.stack([each[key] for each in snapshots]) for key in snapshots[0]}
    return None if narrow else moments | {"state": np.stack(states), "action": np.stack(actions), "reward": np.array(rewards)}


def episodes(case: Case, chance: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """The same, n times: [n, ...]."""
    theirs, played = Theirs(case), []
    while len(played) < n:
        found = episode(theirs, chance, crowd=len(played) % 2 == 1)
        if found is not None:
            played.append(found)
    return {key: np.stack([each[key] for each in played]) for key in played[0]}


def record(case: Case, chance: np.random.Generator) -> dict[str, np.ndarray]:
    """What the test needs."""
    played = episodes(case, chance, case.episodes)
    return {
        "place": played["place"][:, 0].astype(np.float32),
        "landmarks": played["landmarks"][:, 0].astype(np.float32),
        "goal": played["goal"][:, 0].astype(np.uint8),
        "action": played["action"].astype(np.uint8),
        "reward": played["reward"].astype(np.float32),
        "digest": digest(played["state"]).astype(np.float32),
        "state": played["state"][: case.whole].astype(np.float32),
    }


def compare(name: str, case: Case, steps: int, chance: np.random.Generator) -> None:
    """Every transition by itself: from where `mpe2` was, ours has to come to where `mpe2` came to."""
    env = registry.make(case.world, **case.ours)
    limit = env.spec.episode_limit
    played = episodes(case, chance, -(-steps // limit))
    n = len(played["reward"])

    def moments(part: slice) -> dict[str, jax.Array]:
        flat = {key: played[key][:, part].reshape(n * limit, *played[key].shape[2:]) for key in ("place", "velocity", "landmarks")}
        whole = {key: played[key][:, part].reshape(n * limit, -1) for key in ("goal", "word")}
        return {k: jnp.asarray(v, jnp.float32) for k, v in flat.items()} | {k: jnp.asarray(v, jnp.int32) for k, v in whole.items()}

    def state_of(step: jax.Array, at: dict[str, jax.Array]) -> Any:
        if case.world == "mpe/simple_spread":
            return SpreadState(step, at["place"], at["velocity"], at["landmarks"])
        return TalkState(step, at["place"], at["velocity"], at["landmarks"], at["goal"], at["word"])

    clock = jnp.tile(jnp.arange(limit), n)
    before = jax.vmap(state_of)(clock, moments(slice(0, -1)))
    action = jnp.asarray(played["action"].reshape(n * limit, -1), jnp.int32)
    after, outcome = jax.vmap(env.step)(before, action, jax.random.split(jax.random.key(0), n * limit))
    seen = jax.vmap(env.observe)(after)
    pushed = np.abs(np.diff(played["velocity"], axis=1) + 0.25 * played["velocity"][:, :-1]).max(-1) > 0.51
    far = {
        "place": _far(after[1], played["place"][:, 1:]),
        "velocity": _far(after[2], played["velocity"][:, 1:]),
        "state": _far(seen.state, played["state"][:, 1:]),
        "reward": _far(outcome.reward, played["reward"]),
    }
    assert (np.asarray(outcome.truncated).reshape(n, limit) == (np.arange(limit) == limit - 1)).all()
    assert not np.asarray(outcome.terminated).any()
    differences = ", ".join(f"{key} {value:.1e}" for key, value in far.items())
    print(f"{name}: {n * limit} steps, {int(pushed.any(-1).sum())} with a push; largest differences: {differences}")


def _far(ours: Any, theirs: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours, float).reshape(theirs.shape) - theirs).max())


if __name__ == "__main__":
    with in_one_line("mpe_reference"):
        main(tyro.cli(Options))
