"""Acting in host worlds: `rollout.collect` and the evaluation's play, for worlds that live in worker processes.

What is collected has the same form and the same alignment in time. Acting is compiled. All workers step at the same time, in
several parts, none of which waits for another before the segment is complete: steps do not all take as long.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from limbeck.envs.host import HostEnv
from limbeck.envs.workers import Workers
from limbeck.rollout import Act, EpisodeStats
from limbeck.types import PRIVILEGED, Decision, EnvSpec, Outcome, Policy, Segment

Compiled = Callable[..., tuple[Any, PyTree]]
"""(params, carry, decision [B, ...], key, number of the decision, explore) -> (action [B, N], carry)"""


class HostWorlds(NamedTuple):
    """B worlds in progress, with the decision that each waits for: `rollout.Worlds`, but all in numpy, except for the carry."""

    decision: Decision
    carry: PyTree
    episode_return: np.ndarray


def compiled(act: Act) -> Compiled:
    """Acting as a program; each decision has a key of its own."""

    def one(params: PyTree, carry: PyTree, decision: Decision, key: PRNGKeyArray, t: Any, explore: Any) -> tuple[Any, PyTree]:
        return act(params, carry, decision, jax.random.fold_in(key, t), explore)

    return jax.jit(one)


def start(workers: Workers, carry: PyTree) -> HostWorlds:
    """Worlds at their first decision. The workers must not have made a step yet."""
    last_action = np.full((workers.n, workers.env.spec.n_agents), -1, np.int32)
    decision: Any = Decision.about(workers.observe(), last_action, np.ones(workers.n, bool))  # pyright: ignore[reportArgumentType]
    return HostWorlds(decision, carry, np.zeros(workers.n, np.float32))


class Move(NamedTuple):
    """What became of an action, [B, ...] or a part of the worlds."""

    action: np.ndarray
    outcome: Outcome
    episode_return: np.ndarray
    """up to now, this step included"""
    decision: Decision
    """the next one"""

    @property
    def ended(self) -> np.ndarray:
        """Where an episode is over."""
        return self.decision.is_first  # pyright: ignore[reportReturnType]

    @property
    def whole(self) -> np.ndarray:
        """Where an episode is over that was not lost."""
        return self.ended & ~self.outcome.info["lost"]


class Part:
    """Worlds that step together: all of them, or some. `act` and `hear` in turns."""

    def __init__(self, workers: Workers, some: slice, worlds: HostWorlds):
        self.some = some
        self.worlds: HostWorlds = jax.tree.map(lambda x: x[some], worlds)
        self._workers = workers
        self._action = np.empty((0, 0), np.int32)

    def act(self, act: Compiled, view: tuple[str, ...], params: PyTree, key: PRNGKeyArray, t: int, explore: Any) -> None:
        """Sends the worlds on their way; see `Compiled`. `view` is what is seen."""
        seen = self.worlds.decision.within(view)
        action, carry = act(params, self.worlds.carry, seen, key, np.int32(t), explore)
        self._action = np.asarray(action, np.int32)
        self._workers.send(self._action, self.some)
        self.worlds = self.worlds._replace(carry=carry)

    def hear(self) -> Move:
        """Waits for what became of the action.

        Raises:
            WorldFailed: see `Workers.step`.
        """
        outcome, seen = self._workers.receive(self.some)
        ended = outcome.terminated | outcome.truncated
        last: Any = np.where(ended[:, None], np.int32(-1), self._action)
        total = self.worlds.episode_return + outcome.reward
        move = Move(self._action, outcome, total, Decision.about(seen, last, ended))
        self.worlds = HostWorlds(move.decision, self.worlds.carry, np.where(ended, np.float32(0), total))
        return move


def parts(workers: Workers, worlds: HostWorlds) -> list[Part]:
    """The worlds in parts of one size; the last may be smaller."""
    size = workers.env.part_size(workers.n)
    return [Part(workers, slice(i, min(i + size, workers.n)), worlds) for i in range(0, workers.n, size)]


def moves(
    each: list[Part], workers: Workers, act: Callable[[Part, int], None], goes_on: Callable[[int], bool]
) -> Iterator[tuple[int, Move]]:
    """What becomes of all parts' actions, as it comes: a part's number, and its move. No part waits for another.

    Args:
        each: the parts.
        workers: where they are.
        act: sends a part on its way, given the number of its decision: no two decisions of parts have the same.
        goes_on: whether a part, by its number, goes on after the move that was yielded last.
    """
    steps, busy = [0] * len(each), list(range(len(each)))
    for k in busy:
        act(each[k], k)
    while busy:
        k = busy[workers.first([each[k].some for k in busy])]
        steps[k] += 1
        yield k, each[k].hear()
        busy.remove(k)
        if goes_on(k):
            act(each[k], steps[k] * len(each) + k)
            busy.append(k)  # behind those that have waited longer


def collect(
    workers: Workers, act: Compiled, params: PyTree, worlds: HostWorlds, key: PRNGKeyArray, explore: Any, length: int
) -> tuple[HostWorlds, Segment, EpisodeStats]:
    """`length` steps of every world, as one segment [T, B, ...] with T = length.

    Where a worker was lost the transition is masked, as at a time limit, and the decision after it is the first of another episode.
    Lost episodes are none in the statistics.

    Raises:
        WorldFailed: see `Workers.step`.
    """
    each = parts(workers, worlds)
    made: list[list[Move]] = [[] for _ in each]

    def ask(part: Part, t: int) -> None:
        part.act(act, PRIVILEGED, params, key, t, explore)

    for k, move in moves(each, workers, ask, lambda k: len(made[k]) < length):
        made[k].append(move)
    told: Move = _side_by_side([jax.tree.map(lambda *steps: np.stack(steps), *some) for some in made], axis=1)
    return recorded(worlds, told, _side_by_side([part.worlds.carry for part in each]))


def recorded(worlds: HostWorlds, told: Move, carry: PyTree) -> tuple[HostWorlds, Segment, EpisodeStats]:
    """What `collect` returns, of the worlds before the segment, of the moves in it, [T, B, ...], and of the carry after it."""
    decisions = jax.tree.map(lambda first, rest: np.concatenate([first[None], rest]), worlds.decision, told.decision)
    outcome, whole = told.outcome, told.whole
    mask = np.float32(1) - outcome.truncated
    action: Any = told.action
    segment: Any = Segment(decisions, action, outcome.reward, outcome.terminated, mask, worlds.carry)
    sums = (whole.sum(), (whole * told.episode_return).sum(), (whole & outcome.info["won"]).sum())
    last: Any = jax.tree.map(lambda x: x[-1], (told.decision, np.where(told.ended, np.float32(0), told.episode_return)))
    return HostWorlds(last[0], carry, last[1]), segment, EpisodeStats(*map(np.float32, sums))  # pyright: ignore[reportArgumentType]


def _side_by_side(some: list[Any], axis: int = 0) -> Any:
    """Parts of the worlds -> all worlds; one part, as it is."""
    return some[0] if len(some) == 1 else jax.tree.map(lambda *each: _joined(each, axis), *some)


def _joined(each: tuple[Any, ...], axis: int) -> Any:
    return (np if isinstance(each[0], np.ndarray) else jnp).concatenate(each, axis)


def shapes(spec: EnvSpec, worlds: int, length: int, carry: PyTree) -> Segment:
    """What `collect` returns, as shapes and types."""

    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    n, points = spec.n_agents, (length + 1, worlds)
    decisions = Decision(
        obs=of(jnp.float32, *points, n, spec.obs_dim),
        state=of(jnp.float32, *points, spec.state_dim),
        avail_actions=of(jnp.bool_, *points, n, spec.n_actions),
        alive=of(jnp.bool_, *points, n),
        last_action=of(jnp.int32, *points, n),
        is_first=of(jnp.bool_, *points),
    )
    number, flag = of(jnp.float32, length, worlds), of(jnp.bool_, length, worlds)
    return Segment(decisions, of(jnp.int32, length, worlds, n), number, flag, number, carry)


class Played(NamedTuple):
    """Whole episodes, [E], and how many more were lost with their workers and played again."""

    returns: np.ndarray
    lengths: np.ndarray
    won: np.ndarray
    lost: int


def play(
    env: HostEnv, policy: Policy, act: Compiled, params: PyTree, quota: np.ndarray, key: PRNGKeyArray, explore: float
) -> Played:
    """Every world's first `quota` [B] whole episodes, world by world, in workers of their own."""
    n = len(quota)
    key, key_worlds = jax.random.split(key)
    log: list[list[tuple[float, int, bool]]] = [[] for _ in range(n)]
    params = jax.tree.map(np.asarray, params)  # a learner may have spread them over devices
    with Workers(env, n, seed_of(key_worlds)) as workers:
        each, length = parts(workers, start(workers, policy.init_carry(n))), np.zeros(n, int)
        places = [range(n)[part.some] for part in each]

        def ask(part: Part, t: int) -> None:
            part.act(act, policy.view, params, key, t, np.float32(explore))

        for k, move in moves(each, workers, ask, lambda k: any(len(log[i]) < quota[i] for i in places[k])):
            for j, i in enumerate(places[k]):
                length[i] += 1
                if move.whole[j]:
                    log[i].append((float(move.episode_return[j]), int(length[i]), bool(move.outcome.info["won"][j])))
                if move.ended[j]:
                    length[i] = 0
        lost = len(workers.losses)
    counted = [episode for each, q in zip(log, quota, strict=True) for episode in each[:q]]
    returns, lengths, won = (np.array(each) for each in zip(*counted, strict=True))
    return Played(returns.astype(np.float32), lengths.astype(np.int32), won, lost)


def seed_of(key: PRNGKeyArray) -> int:
    """A number that is as random as the key."""
    return int(jax.random.bits(key, dtype=jnp.uint32))
