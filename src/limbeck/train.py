"""A run: stretches of learning, with logging, evaluation and checkpoints between them."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from limbeck.envs.base import Divided
from limbeck.envs.host import AnyEnvironment
from limbeck.errors import BadSetting, Diverged, Interrupted
from limbeck.hosted_learner import learner_for
from limbeck.learn import MAX_ITERATIONS, Learner, Report
from limbeck.replay import Ring
from limbeck.store import RunFolder
from limbeck.types import Algorithm, Policy, TrainState

Row = dict[str, Any]
STRETCH_SECONDS = 0.7
"""How long the program is left alone at a time: short enough for a live display and for Ctrl-C."""


@dataclass(frozen=True)
class Trained:
    """What a run leaves behind."""

    algorithm: Algorithm
    params: PyTree = field(repr=False)
    rows: list[Row] = field(repr=False)

    def policy(self, name: str | None = None) -> tuple[Policy, PyTree]:
        """One of the algorithm's policies, the main one unless named, with the parameters."""
        return self.algorithm.policies[name or self.algorithm.main], self.params


@dataclass(frozen=True)
class Plan:
    """How long a run is, in iterations."""

    total: int
    borders: tuple[int, ...]
    """iterations at which a stretch must end because what an iteration does changes there"""

    @classmethod
    def of(cls, learner: Learner, steps: int | None) -> "Plan":
        """The plan of a run with this budget of environment steps.

        Raises:
            BadSetting: no steps, or steps for a method that counts updates.
        """
        source = learner.algorithm.source
        rounds = learner.steps_per_iteration
        if source.collect_until is None and source.total_updates is not None:
            return cls(math.ceil(source.total_updates / source.updates), ())
        if source.collect_until is None:
            if steps is None or steps < 1:
                raise BadSetting(f"a run needs a positive number of environment steps, not {steps}")
            return cls(math.ceil(steps / rounds), (math.ceil(source.learn_after / rounds),))
        fill = math.ceil(source.collect_until / rounds)
        return cls(fill + math.ceil((source.total_updates or 0) / source.updates), (fill,))

    @staticmethod
    def position(learner: Learner, state: TrainState) -> int:
        """Iterations behind a state."""
        source = learner.algorithm.source
        collected = int(state.steps) // learner.steps_per_iteration
        return collected if source.collect_until is None else collected + int(state.updates) // source.updates


def train(
    env: AnyEnvironment,
    algorithm: Algorithm,
    *,
    steps: int | None = None,
    seed: int = 0,
    worlds: int = 8,
    devices: int | None = None,
    folder: RunFolder | None = None,
    resume: bool = False,
    evaluate: Callable[[PyTree], Mapping[str, Any]] | None = None,
    evaluations: int = 20,
    checkpoint_seconds: float = 120.0,
    watch: Callable[[Row], None] = lambda row: None,
) -> Trained:
    """Trains to the end of the budget.

    Args:
        env: the world.
        algorithm: the method, built for this world's `spec`.
        steps: budget of environment steps over all worlds; methods that have a budget of updates count those instead.
        seed: of everything random.
        worlds: copies of the world in parallel.
        devices: see `Learner`.
        folder: where metrics, checkpoints and parameters go.
        resume: continue from the folder's last checkpoint.
        evaluate: params -> numbers to log, `evaluations` times, evenly spaced; the last time is at the end.
        evaluations: see there.
        checkpoint_seconds: at most so long between two checkpoints.
        watch: gets every row of metrics as it is made.

    Raises:
        BadSetting: sizes or budgets that make no sense.
        Diverged: the loss stopped being finite.
        Interrupted: the user stopped it.
        CheckpointError: `resume` without a usable checkpoint, or a full disk.
    """
    if isinstance(env, Divided) and env.split != "train":
        raise BadSetting(
            f"nobody learns from the {env.split} data of {env.spec.name}: it is held out; leave the world's split at train"
        )
    learner = learner_for(env, algorithm, worlds, devices)
    plan = Plan.of(learner, steps)
    if resume and folder is not None:
        state = learner.place(folder.restore(learner.template())[0])
    else:
        state = learner.init(jax.random.key(seed))
    run = _Run(learner, plan, folder, evaluate, evaluations, watch)
    with closing(learner), _stop_signals() as stopped:
        state = run.to_the_end(state, stopped, checkpoint_seconds)
    if folder is not None:
        folder.save_params(state.params)
    return Trained(algorithm, state.params, run.rows)


def distil(env: AnyEnvironment, algorithm: Algorithm, **options: Any) -> Trained:
    """The second stage: `train` for a method that learns from a teacher, and has a budget of updates of its own.

    Raises:
        BadSetting: the method has no such budget; and see `train`.
    """
    if algorithm.source.total_updates is None:
        raise BadSetting("this method learns by playing and needs a budget of steps: use train(env, algorithm, steps=...)")
    return train(env, algorithm, **options)


def evenly(total: int, count: int) -> list[int]:
    """`count` positions between 0 and the total, as far apart from each other as from 0; the last is the total."""
    count = min(max(count, 1), total)
    return [round(each * total / count) for each in range(1, count + 1)]


class _Run:
    """The bookkeeping of one run."""

    def __init__(self, learner: Learner, plan: Plan, folder: RunFolder | None, evaluate: Any, evaluations: int, watch: Any):
        self.learner, self.plan, self.folder, self.watch = learner, plan, folder, watch
        self.evaluate, self.due = evaluate, evenly(plan.total, evaluations) if evaluate is not None else []
        self.rows: list[Row] = folder.metrics() if folder is not None else []

    def to_the_end(self, state: TrainState, stopped: threading.Event, checkpoint_seconds: float) -> TrainState:
        at = Plan.position(self.learner, state)
        begun = last_saved = time.monotonic()
        before = self.rows[-1]["seconds"] if self.rows else 0.0
        per_iteration = math.inf
        while at < self.plan.total:
            n = self._stretch(at, per_iteration)
            phase = self.learner.phase(int(state.steps))
            first_update = int(state.updates)
            clock = time.monotonic()
            state, report = self.learner.advance(state, n, phase)
            took = time.monotonic() - clock
            per_iteration = took / n if math.isfinite(per_iteration) else math.nextafter(math.inf, 0)  # the first one compiles
            self._check(report, first_update)
            at += n
            row = self._row(state, report, took, n * phase.collect)
            if at in self.due:
                row |= self.evaluate(state.params)
            row["seconds"] = round(before + time.monotonic() - begun, 3)
            self._log(row)
            over = at >= self.plan.total
            if over or stopped.is_set() or time.monotonic() - last_saved > checkpoint_seconds:
                self._save(state)
                last_saved = time.monotonic()
            if stopped.is_set() and not over:
                raise Interrupted(self._how_to_go_on())
        return state

    def _stretch(self, at: int, per_iteration: float) -> int:
        """Iterations until something has to happen between them."""
        ends = [border for border in (*self.plan.borders, *self.due, self.plan.total) if border > at]
        pace = max(1, int(STRETCH_SECONDS / per_iteration)) if per_iteration > 0 else MAX_ITERATIONS
        return min(*ends, at + pace, at + MAX_ITERATIONS) - at

    def _row(self, state: TrainState, report: Report, took: float, collecting: int) -> Row:
        episodes = float(report.episodes.episodes.sum())
        row: Row = {"steps": int(state.steps), "updates": int(state.updates), "episodes": int(episodes)}
        row["progress"] = round(Plan.position(self.learner, state) / self.plan.total, 4)
        if collecting:
            row["steps_per_s"] = round(collecting * self.learner.steps_per_iteration / took, 1)
        if episodes:
            row["train_return"] = float(report.episodes.return_sum.sum()) / episodes
            row["train_win_rate"] = float(report.episodes.won_sum.sum()) / episodes
        row |= {name: float(np.mean(values)) for name, values in report.metrics.items()}
        return row | self.learner.remarks() | (self.learner.validate(state) if not collecting else {})

    def _check(self, report: Report, first_update: int) -> None:
        finite = np.ones(1, bool)
        for name in ("loss", "gradient_norm"):
            finite = finite & np.isfinite(report.metrics.get(name, np.zeros(1)))
        if not finite.all():
            raise self._diverged(first_update + (int(np.argmin(finite)) + 1) * self.learner.algorithm.source.updates)

    def _diverged(self, update: int) -> Diverged:
        good = self.folder.checkpoints()[-1:] if self.folder is not None else []
        keep = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        return Diverged(f"the loss is not a finite number at update {update}; {keep}; try a smaller --lr in a new run")

    def _how_to_go_on(self) -> str:
        if self.folder is None:
            return "stopped; nothing is kept, since the run has no folder"
        return f"stopped; all is saved, continue with: limbeck train --resume {self.folder.path}"

    def _log(self, row: Row) -> None:
        self.rows.append(row)
        if self.folder is not None:
            self.folder.log(row)
        self.watch(row)

    def _save(self, state: TrainState) -> None:
        # The loss is known before the update that follows from it: only the parameters tell whether that one went wrong.
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)):
            raise self._diverged(int(state.updates))
        if self.folder is not None:
            filled = {"buffer/data": int(state.buffer.size)} if isinstance(state.buffer, Ring) else {}
            self.folder.save_checkpoint(state, int(state.steps), int(state.updates), filled)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Ctrl-C and a polite kill set the event instead of tearing a stretch apart. A second Ctrl-C does what it always does."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    old = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        stopped.set()
        for s, handler in old.items():
            signal.signal(s, handler)

    for s in old:
        signal.signal(s, stop)
    try:
        yield stopped
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)
