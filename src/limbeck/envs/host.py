"""Worlds that live in Python processes of their own: simulators that are no JAX programs, and games."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from limbeck.envs.base import Environment
from limbeck.envs.worker import Sizes
from limbeck.errors import BadSetting, unknown
from limbeck.types import EnvSpec

ACTING = ("learner", "workers")


class HostWorld(Protocol):
    """One world in a worker process: the three verbs of `Environment`, but with a memory of its own, and numpy in and out."""

    def reset(self, seed: int) -> None:
        """A new episode. Worlds whose chance cannot be chosen ignore the seed."""
        ...

    def step(self, action: np.ndarray) -> tuple[float, bool, bool, Mapping[str, Any]]:
        """action [N] -> reward, terminated, truncated, info. The time limit is the world's own to report, as `truncated`.

        Of `info`, `won` is read; and `lost`, which says that the world itself failed, and the episode is to be counted as lost.
        """
        ...

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What is shown now: obs [N, O], state [S], avail_actions [N, A] and alive [N], the last two as truth values."""
        ...

    def close(self) -> None:
        """The end of the process is near."""
        ...


class Measured(HostWorld, Protocol):
    """A host world whose sizes nobody knows before it has been made, so that it is asked for them."""

    def facts(self) -> dict[str, Any]:
        """The fields of `EnvSpec`, except for the name. Nothing is asked of the world afterwards."""
        ...


def nothing() -> None:
    """No world is needed beyond what is installed."""


@dataclass(frozen=True)
class Processes:
    """What the settings of all host worlds have in common.

    Args:
        timeout: see `HostEnv`.
        workers: see `HostEnv`.
        per_process: see `HostEnv`.
        acting: see `HostEnv`.
    """

    timeout: float = 60.0
    workers: int | None = None
    per_process: int = 1
    acting: str = "learner"

    @property
    def processes(self) -> dict[str, Any]:
        """As `HostEnv` takes them."""
        return {each.name: getattr(self, each.name) for each in fields(Processes)}


@dataclass(frozen=True)
class HostEnv:
    """A host world as the rest of limbeck knows it: its sizes, and how a worker process makes one. Nothing runs yet.

    Args:
        spec: its sizes.
        factory: `package.module:function`, called in the worker with the settings; makes a `HostWorld`.
        settings: the function's arguments, as JSON knows them.
        timeout: seconds that a step, with the reset that may follow it, is waited for; a start is waited for five times as long.
        workers: processes at most for an evaluation; None: one per core. (A run has as many as its worlds need.)
        require: raises a `LimbeckError`, in one line, if the world cannot be made on this machine.
        parts: the worlds fall into so many parts at most, none of which waits for another: actions for one are computed while the
            others step, and a long step holds up nobody else (decision 12). 1: all step together.
        per_process: worlds that share a process, which steps one after the other, so that one message is about several: for worlds
            that are cheap, or more than the cores (decision 13). One that crashes takes the others' episodes with it.
        acting: who computes a run's actions: the learner, for all worlds; or the workers, each for its own, a whole segment without
            waiting for anybody (decision 14). Then a worker needs JAX: two seconds and some 200 MB more.

    Raises:
        BadSetting: a time-out or a number of workers, parts or worlds per process that makes no sense; or a factory without a name.
        UnknownName: neither learner nor workers act.
    """

    spec: EnvSpec
    factory: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 60.0
    workers: int | None = None
    require: Callable[[], None] = nothing
    parts: int = 8
    per_process: int = 1
    acting: str = "learner"

    def __post_init__(self):
        if not self.timeout > 0:
            raise BadSetting(f"timeout is {self.timeout!r}; it must be a number of seconds above 0")
        if self.workers is not None and self.workers < 1:
            raise BadSetting(f"workers is {self.workers!r}; it must be at least 1")
        for name in ("parts", "per_process"):
            if getattr(self, name) < 1:
                raise BadSetting(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        if self.acting not in ACTING:
            raise unknown("acting", self.acting, ACTING)
        if not all(self.factory.partition(":")):
            raise BadSetting(f"a factory is written package.module:function, not '{self.factory}'")

    @property
    def parallel(self) -> int:
        """Worlds that an evaluation has at most."""
        return (self.workers or os.cpu_count() or 1) * self.per_process

    def part_size(self, worlds: int) -> int:
        """How many of so many worlds step together."""
        processes = len(self.homes(worlds))
        # Where worlds share a process, half of them step while the other half's actions are computed: smaller parts cost messages.
        parts = self.parts if self.per_process == 1 else min(self.parts, 2 * processes)
        return -(-worlds // parts)

    def homes(self, worlds: int) -> list[range]:
        """Which of so many worlds share a process; in the last there may be fewer."""
        return [range(i, min(i + self.per_process, worlds)) for i in range(0, worlds, self.per_process)]

    def sizes(self, worlds: int) -> Sizes:
        """The sizes of so many worlds together."""
        spec = self.spec
        return Sizes(worlds, spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim)


AnyEnvironment = Environment | HostEnv
"""A world, wherever it lives."""
