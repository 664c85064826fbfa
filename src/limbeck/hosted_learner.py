"""The learner for worlds that live in worker processes: it collects outside of the program, and learns in it like any other."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PRNGKeyArray, PyTree

from limbeck import acting
from limbeck.acting import Known
from limbeck.envs.acting import ActingWorkers
from limbeck.envs.host import AnyEnvironment, HostEnv
from limbeck.envs.workers import Workers
from limbeck.hosted import HostWorlds, collect, compiled, seed_of, shapes, start
from limbeck.learn import AXIS, Learner, Phase, Report
from limbeck.replay import Latest
from limbeck.rollout import EpisodeStats
from limbeck.types import Algorithm, Segment, TrainState


def learner_for(env: AnyEnvironment, algorithm: Algorithm, worlds: int = 8, devices: int | None = None) -> Learner:
    """The learner that the world needs; see `Learner`.

    Raises:
        BadSetting: sizes that do not fit each other.
        LimbeckError: a host world that cannot be made on this machine.
    """
    if isinstance(env, HostEnv):
        return HostLearner(env, algorithm, worlds, devices)
    return Learner(env, algorithm, worlds, devices)


class HostLearner(Learner):
    """A `Learner` with one worker process for every world.

    The workers are started when the first segment is collected. They are no part of the run's state: a run that is resumed begins
    new episodes in all worlds. Everything else, the buffer included, continues as it was.
    """

    def __init__(self, env: HostEnv, algorithm: Algorithm, worlds: int = 8, devices: int | None = None):
        env.require()
        super().__init__(env, algorithm, worlds, devices)
        self._act = compiled(algorithm.act)
        self._catch_up = jax.jit(algorithm.catch_up)
        self._prepare = jax.jit(self._acting)
        self._absorb = jax.jit(self._sharded_absorb, static_argnames="phase", donate_argnums=0)
        self._ahead = env.acting == "workers" and algorithm.source.ahead
        self._workers: Workers | None = None
        self._running: HostWorlds | None = None
        self._reported = 0

    def close(self) -> None:
        """Ends the workers. Who collects again starts new ones."""
        if self._workers is not None:
            self._workers.close()
        self._workers, self._running, self._reported = None, None, 0

    def remarks(self) -> dict[str, Any]:
        """How many episodes were lost since it was last asked, with their workers."""
        so_far = len(self._workers.losses) if self._workers is not None else 0
        new, self._reported = so_far - self._reported, so_far
        return {"lost_episodes": new}

    def advance(self, state: TrainState, iterations: int, phase: Phase) -> tuple[TrainState, Report]:
        """See `Learner.advance`."""
        if not phase.collect:
            self.close()  # games take memory and cores
            return super().advance(state, iterations, phase)
        episodes, metrics = [], []
        for _ in range(iterations):
            segment, stats = self._segment(state)
            state, report = self._absorb(state, segment, phase=phase)
            episodes.append(stats)
            metrics.append(report.metrics)
        return state, Report(*(jax.tree.map(lambda *each: np.stack(each), *all_) for all_ in (episodes, metrics)))

    def _adopt(self, env: Any) -> Any:
        return env

    def _segment(self, state: TrainState) -> tuple[Segment, EpisodeStats]:
        """The next segment, laid out over the devices."""
        here = jax.tree.map(lambda x: x.addressable_data(0), (state.params, *self._prepare(state.key, state.steps)))
        known = Known(*here)  # acting needs one device
        if self._workers is None or self._running is None:
            self._workers, self._running = self._start(seed_of(state.key), known)
        worlds, length = self._running, self.algorithm.source.collect
        if isinstance(self._workers, ActingWorkers):
            acting.send(self._workers, known, None if self._ahead else worlds)
            after, segment, stats = acting.collect(self._workers, worlds)
        else:
            after, segment, stats = collect(self._workers, self._act, known.params, worlds, known.key, known.explore, length)
        self._running = after._replace(carry=self._catch_up(known.params, after.carry, segment))
        return jax.tree.map(
            lambda spec, part: jax.device_put(part, NamedSharding(self._mesh, spec)),
            Latest().spec(AXIS),
            segment,
            is_leaf=lambda x: isinstance(x, P),
        ), stats

    def _start(self, seed: int, known: Known) -> tuple[Workers, HostWorlds]:
        """New workers, and their worlds. Those that act ahead have begun the first segment, with chance of its own."""
        algorithm, carry = self.algorithm, self.algorithm.init_carry(self.worlds)
        if self.env.acting == "learner":
            workers = Workers(self.env, self.worlds, seed)
            return workers, start(workers, carry)
        length = algorithm.source.collect
        workers = acting.start_workers(self.env, self.worlds, seed, algorithm.act, known, carry, length, self._ahead)
        worlds = start(workers, carry)
        if self._ahead:
            acting.send(workers, known._replace(key=jax.random.fold_in(known.key, 1)), worlds)
        return workers, worlds

    # -- inside jit ------------------------------------------------------------------------------------------------------

    def _init_local(self, params: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        carry = jax.eval_shape(lambda: self.algorithm.init_carry(self._local_worlds))
        segment = shapes(self.env.spec, self._local_worlds, self.algorithm.source.collect, carry)
        return (), self._store.init(jax.eval_shape(self.algorithm.source.prepare, params, segment))

    def _acting(self, key: PRNGKeyArray, steps: Array) -> tuple[PRNGKeyArray, Array]:
        """The key of an iteration's acting, apart from those of its learning, and how much to explore."""
        return jax.random.fold_in(jax.random.split(key)[1], self.devices), self.algorithm.explore(steps)

    def _sharded_absorb(self, state: TrainState, segment: Segment, phase: Phase) -> tuple[TrainState, Report]:
        def local(state: TrainState, segment: Segment) -> tuple[TrainState, Report]:
            nothing = EpisodeStats(*jax.numpy.zeros(3))  # counted outside
            return self._iteration(state, phase, ((), segment, nothing))

        specs = (self._spec, Latest().spec(AXIS))
        run = partial(jax.shard_map, mesh=self._mesh, in_specs=specs, out_specs=(self._spec, P()), check_vma=False)
        return run(local)(state, segment)
