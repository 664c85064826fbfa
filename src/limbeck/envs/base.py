"""The contract between a world and the rest: three verbs, written for one world; batching and auto-reset are added here, once."""

from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from limbeck.types import EnvSpec, Observation, Outcome

State = TypeVar("State")


@runtime_checkable
class Environment(Protocol[State]):
    """One cooperative world. All three verbs are pure, have fixed shapes and work under `jit` and `vmap`.

    `observe` is apart from `step` so that a batch which resets its finished worlds still computes observations once per step.
    """

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self, key: PRNGKeyArray) -> State:
        """A new episode."""
        ...

    def step(self, state: State, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[State, Outcome]:
        """The episode one step on. Never resets by itself. The time limit is the world's own to report, as `truncated`."""
        ...

    def observe(self, state: State) -> Observation:
        """What the state shows to the agents ([N, O], [N, A]) and to a privileged teacher ([S])."""
        ...


@runtime_checkable
class Batch(Protocol):
    """B worlds at once. Keys, actions and results lead with [B]; the layout of the state is the batch's own business."""

    def reset(self, key: PRNGKeyArray) -> Any: ...
    def step(self, state: Any, action: Int[Array, "B N"], key: PRNGKeyArray) -> tuple[Any, Outcome]: ...
    def observe(self, state: Any) -> Observation: ...
    def where(self, flag: Bool[Array, "B"], new: Any, old: Any) -> Any:
        """World by world: `new` where the flag is set, else `old`."""
        ...

    def one(self, state: Any, index: int) -> Any:
        """A world of the batch by itself: the state as `Environment` knows it."""
        ...


@runtime_checkable
class NativelyBatched(Protocol):
    """A world that knows a faster layout for many copies of itself than `vmap` would find."""

    def batch(self) -> Batch: ...


@runtime_checkable
class Divided(Protocol):
    """A world whose episodes come from data. Part of it is held out: nobody may learn on it, and all results are about it."""

    @property
    def split(self) -> str:
        """Where its episodes come from; `train` is for learning."""
        ...

    def held_out(self, split: str) -> Any:
        """The same world on data that is held out: that of `split`, or its own if that is held out already."""
        ...


def held_out(env: Any, split: str = "test") -> Any:
    """The world in which results are measured: itself, unless its data is divided. While learning goes on, that is `validation`."""
    return env.held_out(split) if isinstance(env, Divided) else env


@runtime_checkable
class Crowded(Protocol):
    """A world that computes so much at every step that many copies of it, all at once, would leave a core's cache."""

    @property
    def worlds_at_once(self) -> int:
        """How many copies are stepped at a time, at most."""
        ...


class VmapBatch:
    """The batch of a world that has no layout of its own."""

    def __init__(self, env: Environment):
        self.reset = jax.vmap(env.reset)
        self.step = jax.vmap(env.step)
        self.observe = jax.vmap(env.observe)

    def where(self, flag: Bool[Array, "B"], new: Any, old: Any) -> Any:
        def pick(a: Array, b: Array) -> Array:
            return jnp.where(flag.reshape(flag.shape + (1,) * (a.ndim - 1)), a, b)

        return jax.tree.map(pick, new, old)

    def one(self, state: State, index: int) -> State:
        """A world of the batch by itself."""
        return jax.tree.map(lambda x: x[index], state)


def batch(env: Environment) -> Batch:
    """The fastest batch that the world offers."""
    return env.batch() if isinstance(env, NativelyBatched) else VmapBatch(env)


class Running(NamedTuple):
    """Worlds in progress."""

    state: Any
    """of all worlds; of worlds that are stepped some at a time, of each block"""
    key: PRNGKeyArray
    """[B]: every world has its own stream of chance, so the order of worlds changes nothing"""


class AutoReset(Generic[State]):
    """B worlds that start a new episode where one has ended; some at a time, if the world says so (`Crowded`)."""

    def __init__(self, env: Environment[State]):
        self.spec = env.spec
        self._batch = batch(env)
        self._at_once = env.worlds_at_once if isinstance(env, Crowded) else None

    def reset(self, key: PRNGKeyArray) -> tuple[Running, Observation]:
        """key [B] -> worlds at their first decision."""
        blocks = self._blocks(key.shape[0])
        if blocks == 1:
            return self._reset(key)
        running, seen = jax.lax.map(self._reset, key.reshape(blocks, -1))
        return running._replace(key=running.key.reshape(-1)), _merged(seen)

    def step(self, running: Running, action: Int[Array, "B N"]) -> tuple[Running, Outcome, Observation]:
        """One step of every world. Where it ended, the observation is the next episode's first."""
        blocks = self._blocks(running.key.shape[0])
        if blocks == 1:
            return self._step(running, action)
        parts = running._replace(key=running.key.reshape(blocks, -1)), action.reshape(blocks, -1, action.shape[-1])
        running, outcome, seen = jax.lax.map(lambda part: self._step(*part), parts)
        return running._replace(key=running.key.reshape(-1)), _merged(outcome), _merged(seen)

    def _blocks(self, worlds: int) -> int:
        """How many, of equal size. One, where splitting up would cost more than it saves: it has its price too."""
        if self._at_once is None or worlds <= 2 * self._at_once:
            return 1
        most = self._at_once
        n = next(n for n in range(1, worlds + 1) if worlds % n == 0 and worlds // n <= most)
        return n if 4 * (worlds // n) >= most else 1

    def _reset(self, key: PRNGKeyArray) -> tuple[Running, Observation]:
        key, key_reset = _split(key, 2)
        state = self._batch.reset(key_reset)
        return Running(state, key), self._batch.observe(state)

    def _step(self, running: Running, action: Int[Array, "B N"]) -> tuple[Running, Outcome, Observation]:
        key, key_step, key_reset = _split(running.key, 3)
        state, outcome = self._batch.step(running.state, action, key_step)
        state = self._batch.where(outcome.terminated | outcome.truncated, self._batch.reset(key_reset), state)
        return Running(state, key), outcome, self._batch.observe(state)


def _merged(tree: Any) -> Any:
    """[n, B / n, ...] -> [B, ...]"""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _split(key: PRNGKeyArray, n: int) -> tuple[PRNGKeyArray, ...]:
    """[B] keys -> n times [B] keys."""
    keys = jax.vmap(lambda k: jax.random.split(k, n))(key)
    return tuple(keys[:, i] for i in range(n))
