"""The one learner: collect, add, sample, update, all inside one compiled loop, for every method and on any number of devices."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from limbeck.envs.base import AutoReset
from limbeck.envs.host import AnyEnvironment
from limbeck.errors import BadSetting
from limbeck.replay import Dataset
from limbeck.rollout import EpisodeStats, collect, start
from limbeck.types import Algorithm, TrainState

AXIS = "device"
MAX_ITERATIONS = 256
"""Iterations in one call of `advance` at most: the length of its report."""
FEWEST_WORLDS = 4
"""Worlds that a device is worth: below, waiting for each other costs more than a device brings."""


class Report(NamedTuple):
    """What happened in each iteration of a stretch, [iterations]."""

    episodes: EpisodeStats
    metrics: dict[str, Array]


@dataclass(frozen=True)
class Phase:
    """What an iteration does now."""

    collect: bool
    learn: bool


class Learner:
    """Trains an `Algorithm` in copies of a world.

    The worlds, the buffer and every batch are split evenly over the devices; gradients are averaged. The same program runs on the
    cores of a laptop and on several accelerators.

    Args:
        env: the world.
        algorithm: the method.
        worlds: copies in parallel (B), over all devices.
        devices: how many devices to use; None: see `usable_devices`.

    Raises:
        BadSetting: sizes that do not fit each other.
    """

    def __init__(self, env: AnyEnvironment, algorithm: Algorithm, worlds: int = 8, devices: int | None = None):
        self.env: Any = self._adopt(env)
        self.algorithm = algorithm
        self.worlds = worlds
        self.devices = devices or usable_devices(worlds)
        if worlds < 1 or worlds % self.devices:
            raise BadSetting(
                f"{worlds} worlds cannot be split evenly over {self.devices} devices: take a multiple of {self.devices}"
            )
        if self.devices > jax.device_count():
            raise BadSetting(f"{self.devices} devices were asked for, but there are {jax.device_count()}")
        self._local_worlds = worlds // self.devices
        self._store = algorithm.source.store.split(self.devices)
        self._mesh = Mesh(np.array(jax.devices()[: self.devices]), (AXIS,))
        whole: Any = P()  # a record of layouts has the form of the record of arrays, not its types
        self._spec = TrainState(whole, whole, whole, self._store.spec(AXIS), P(AXIS), whole, whole, whole)
        self._advance = jax.jit(self._sharded_advance, static_argnames="phase", donate_argnums=0)
        self._validate = jax.jit(self._sharded_validate)

    def _adopt(self, env: Any) -> Any:
        """The world in the form that the learner plays in."""
        return AutoReset(env)

    def close(self) -> None:
        """Lets go of what the worlds hold besides memory: nothing, unless they live elsewhere."""

    def remarks(self) -> dict[str, Any]:
        """What there is to say about the worlds since it was last asked, for the metrics."""
        return {}

    def init(self, key: PRNGKeyArray) -> TrainState:
        """The state of a run that is about to begin."""
        return jax.jit(self._init)(key)

    def template(self) -> TrainState:
        """Shapes and types of a run's state, for loading one."""
        return jax.eval_shape(self._init, jax.random.key(0))

    def phase(self, steps: int) -> Phase:
        """What comes next in a run that has made this many environment steps."""
        source = self.algorithm.source
        filling = source.collect_until is not None and steps < source.collect_until
        return Phase(
            collect=source.collect_until is None or filling,
            learn=not filling and steps >= source.learn_after,
        )

    def validate(self, state: TrainState) -> dict[str, float]:
        """The loss on data held out from learning, where the source holds some out."""
        if not isinstance(self._store, Dataset):
            return {}
        return {"validation_" + name: float(value) for name, value in self._validate(state).items()}

    def place(self, state: TrainState) -> TrainState:
        """A loaded state, laid out over the devices."""
        return jax.tree.map(
            lambda spec, part: jax.device_put(part, NamedSharding(self._mesh, spec)), self._spec, state, is_leaf=_is_spec
        )

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of an iteration that collects."""
        return self.worlds * self.algorithm.source.collect

    def advance(self, state: TrainState, iterations: int, phase: Phase) -> tuple[TrainState, Report]:
        """Some iterations on. The given state is used up. What is computed does not depend on how a run is cut into stretches.

        Raises:
            ValueError: more than MAX_ITERATIONS at once.
        """
        if not 1 <= iterations <= MAX_ITERATIONS:
            raise ValueError(f"1 to {MAX_ITERATIONS} iterations at once, not {iterations}")
        state, report = self._advance(state, jnp.int32(iterations), phase)
        return state, jax.tree.map(lambda x: np.asarray(x)[:iterations], report)

    # -- inside jit ------------------------------------------------------------------------------------------------------

    def _init(self, key: PRNGKeyArray) -> TrainState:
        key_params, key_worlds, key_run = jax.random.split(key, 3)
        shard = partial(jax.shard_map, mesh=self._mesh, check_vma=False)
        start_all = shard(self._init_local, in_specs=(P(), P(AXIS)), out_specs=(P(AXIS), self._store.spec(AXIS)))
        params = self.algorithm.init(key_params)
        worlds, buffer = start_all(params, jax.random.split(key_worlds, self.worlds))
        zero = jnp.zeros((), jnp.int32)
        opt_state = self.algorithm.optimiser.init(params)
        target = jax.tree.map(jnp.copy, self.algorithm.init_target(params))
        return TrainState(params, target, opt_state, buffer, worlds, zero, zero, key_run)

    def _init_local(self, params: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        worlds = start(self.env, self.algorithm.init_carry(self._local_worlds), key)
        fake = jax.eval_shape(lambda: self._collect(params, worlds, jax.random.key(0), jnp.int32(0))[1])
        return worlds, self._store.init(jax.eval_shape(self.algorithm.source.prepare, params, fake))

    def _sharded_validate(self, state: TrainState) -> dict[str, Array]:
        def local(state: TrainState) -> dict[str, Array]:
            assert isinstance(self._store, Dataset)
            sample = self._store.holdout(state.buffer, jax.random.key(0))
            loss, metrics = self.algorithm.loss(state.params, state.target, sample, jax.random.key(0))
            return jax.lax.pmean({"loss": loss, **metrics}, AXIS)

        return jax.shard_map(local, mesh=self._mesh, in_specs=(self._spec,), out_specs=P(), check_vma=False)(state)

    def _sharded_advance(self, state: TrainState, iterations: Array, phase: Phase) -> tuple[TrainState, Report]:
        run = jax.shard_map(
            partial(self._advance_local, phase=phase),
            mesh=self._mesh,
            in_specs=(self._spec, P()),
            out_specs=(self._spec, P()),
            check_vma=False,
        )
        return run(state, iterations)

    def _advance_local(self, state: TrainState, iterations: Array, phase: Phase) -> tuple[TrainState, Report]:
        iterate = jax.jit(partial(self._iteration, phase=phase), inline=True)  # traced once for its shapes and for the loop
        one = jax.eval_shape(iterate, state)[1]
        blank = jax.tree.map(lambda x: jnp.zeros((MAX_ITERATIONS, *x.shape), x.dtype), one)

        def body(i: Array, at: tuple[TrainState, Report]) -> tuple[TrainState, Report]:
            state, log = at
            state, entry = iterate(state)
            return state, jax.tree.map(lambda all_, x: all_.at[i].set(x), log, entry)

        return jax.lax.fori_loop(0, iterations, body, (state, blank))

    def _iteration(self, state: TrainState, phase: Phase, collected: Any = None) -> tuple[TrainState, Report]:
        """`collected` is what `_collect` would return, if it has been collected outside."""
        source = self.algorithm.source
        key, key_shared = jax.random.split(state.key)
        key_collect, key_learn = jax.random.split(jax.random.fold_in(key_shared, jax.lax.axis_index(AXIS)))
        state = state._replace(key=key)
        stats = EpisodeStats(*jnp.zeros(3))
        if phase.collect:
            worlds, segment, stats = collected or self._collect(state.params, state.worlds, key_collect, state.steps)
            buffer = self._store.add(state.buffer, source.prepare(state.params, segment))
            steps = state.steps + self.steps_per_iteration
            target = self.algorithm.after_collect(state.params, state.target, segment, steps)
            state = state._replace(worlds=worlds, buffer=buffer, target=target, steps=steps)
        metrics = {}
        if phase.learn:
            keys = jax.vmap(jax.random.split)(jax.random.split(key_learn, source.updates))
            draws = self._store.draws(state.buffer, keys[:, 0])
            # The buffer stays out of the loop's carry, where it would be copied.
            learned, metrics = jax.lax.scan(partial(self._update, state.buffer), _Learned.of(state), (draws, keys[:, 1]))
            state = state._replace(**learned._asdict())
            metrics = jax.tree.map(lambda x: x.mean(0), metrics)
        return state, Report(jax.lax.psum(stats, AXIS), jax.lax.pmean(metrics, AXIS))

    def _collect(self, params: PyTree, worlds: PyTree, key: PRNGKeyArray, steps: Array) -> Any:
        algorithm = self.algorithm
        explore = algorithm.explore(steps)
        worlds, segment, stats = collect(self.env, algorithm.act, params, worlds, key, explore, algorithm.source.collect)
        return worlds._replace(carry=algorithm.catch_up(params, worlds.carry, segment)), segment, stats

    def _update(
        self, buffer: PyTree, at: "_Learned", what: tuple[PyTree, PRNGKeyArray]
    ) -> tuple["_Learned", dict[str, Float[Array, ""]]]:
        algorithm = self.algorithm
        draw, key_loss = what
        sample = self._store.sample(buffer, draw)
        differentiate = jax.value_and_grad(algorithm.loss, has_aux=True)
        (loss, metrics), gradient = differentiate(at.params, at.target, sample, key_loss)
        gradient = jax.lax.pmean(gradient, AXIS)
        step, opt_state = algorithm.optimiser.update(gradient, at.opt_state, at.params)
        params = optax.apply_updates(at.params, step)
        updates = at.updates + 1
        target = algorithm.after_update(params, at.target, updates)
        return _Learned(params, target, opt_state, updates), {"loss": loss, "gradient_norm": optax.tree.norm(gradient), **metrics}


class _Learned(NamedTuple):
    """What an update changes."""

    params: PyTree
    target: PyTree
    opt_state: PyTree
    updates: Array

    @classmethod
    def of(cls, state: TrainState) -> "_Learned":
        return cls(state.params, state.target, state.opt_state, state.updates)


def _is_spec(x: Any) -> bool:
    return isinstance(x, P)


def usable_devices(worlds: int) -> int:
    """How many of the devices at hand to split worlds over: the largest power of two that leaves each at least `FEWEST_WORLDS`."""
    n = 1
    while n * 2 <= jax.device_count() and worlds % (n * 2) == 0 and worlds // (n * 2) >= FEWEST_WORLDS:
        n *= 2
    return n
