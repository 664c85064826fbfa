"""B copies of a host world, each in its own process, stepped together. A process that crashes or hangs is replaced."""

import json
import mmap
import os
import select
import socket
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from limbeck.envs.host import HostEnv
from limbeck.envs.process import START, Process, anonymous_memory, launch
from limbeck.envs.worker import FINE, GRACE, STEP, size_of, view
from limbeck.errors import WorldFailed
from limbeck.types import Observation, Outcome

PATIENCE = 5
"""losses of one worker in a row, without a whole episode between them, before the world is given up"""
LOG_BYTES = 1 << 20
ALL = slice(None)


class Workers:
    """B worlds that start a new episode where one has ended, like `AutoReset`, but each in its own process.

    Args:
        env: the world.
        n: how many (B).
        seed: of all chance in them, together with the world's place and the number of the episode.

    Raises:
        WorldFailed: the world cannot be started.
        LimbeckError: whatever the world's factory says is the user's to solve.
    """

    def __init__(self, env: HostEnv, n: int, seed: int = 0):
        self.env, self.n, self.seed = env, n, seed
        self.losses: list[str] = []
        """why each lost episode was lost"""
        self._sizes = env.sizes(n)
        self._memory_fd = anonymous_memory(size_of(self._sizes))
        self._shared = view(mmap.mmap(self._memory_fd, 0), self._sizes)
        self._episode = [0] * n
        self._in_a_row = [0] * n
        self._asked_at = [0.0] * n
        self._workers: dict[int, Process] = {}
        self.close = weakref.finalize(self, _end_all, self._workers, self._memory_fd)
        try:
            self._begin(range(n))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The processes, world by world."""
        return [self._workers[i].process.pid for i in range(self.n)]

    def observe(self, some: slice = ALL) -> Observation:
        """What worlds show, [B, ...], or some of them."""
        shared = self._shared
        seen: Any = [array[some].copy() for array in (shared.obs, shared.state, shared.avail_actions, shared.alive)]
        return Observation(*seen)

    def step(self, action: np.ndarray) -> tuple[Outcome, Observation]:
        """One step of every world; action [B, N]. Where an episode ended, the observation is the next one's first.

        An episode whose worker was lost ends `truncated`, with `info["lost"]`.

        Raises:
            WorldFailed: a worker is lost again and again.
        """
        self.send(action)
        return self.receive()

    def send(self, action: np.ndarray, some: slice = ALL) -> None:
        """The first half of `step`: worlds are on their way, all of them or some."""
        self._shared.action[some] = action
        for i in self._places(some):
            self._asked_at[i] = time.monotonic()
            with suppress(OSError):  # `receive` will find it gone
                self._workers[i].channel.send(STEP)

    def first(self, sent: Sequence[slice]) -> int:
        """Which of the parts that were sent is the first whose worlds have all answered, or whose time is over."""
        missing = [{self._workers[i].channel.fileno() for i in self._places(some)} for some in sent]
        part_of = {fd: k for k, fds in enumerate(missing) for fd in fds}
        poll = select.poll()
        for fd in part_of:
            poll.register(fd, select.POLLIN)
        asked_at = [min(self._asked_at[i] for i in self._places(some)) for some in sent]
        while all(missing):
            ready = poll.poll(_milliseconds_to(min(asked_at) + self.env.timeout))
            if not ready:
                return asked_at.index(min(asked_at))
            for fd, _ in ready:
                poll.unregister(fd)
                missing[part_of[fd]].discard(fd)
        return missing.index(set())

    def receive(self, some: slice = ALL) -> tuple[Outcome, Observation]:
        """The second half of `step`: what became of the worlds that were sent."""
        places = self._places(some)
        failed = self._answers(places, self.env.timeout)
        self._restart(failed)
        for i, why in failed.items():
            self._write_off(i, why)
        shared = self._shared
        arrays = (shared.reward, shared.terminated, shared.truncated, shared.won, shared.lost)
        came: Any = [array[some].copy() for array in arrays]
        outcome = Outcome(*came[:3], info=dict(zip(("won", "lost"), came[3:], strict=True)))
        for i, over in zip(places, outcome.terminated | outcome.truncated, strict=True):
            if over and i not in failed:
                self._over(i)
        return outcome, self.observe(some)

    def _places(self, some: slice) -> range:
        return range(self.n)[some]

    # -- losses ----------------------------------------------------------------------------------------------------------

    def _write_off(self, i: int, why: str) -> None:
        """The episode of a lost worker ends here."""
        shared = self._shared
        shared.reward[i], shared.terminated[i], shared.won[i] = 0.0, False, False
        shared.truncated[i] = shared.lost[i] = True
        self.losses.append(f"world {i}: {why}")

    def _over(self, i: int) -> None:
        """A worker has gone on to the next episode by itself."""
        self._episode[i] += 1
        if self._shared.lost[i]:
            self.losses.append(f"world {i}: it reported the loss of an episode")
            self._strike(i, "it said so itself")
        else:
            self._in_a_row[i] = 0
        log = self._workers[i].log.fileno()
        if os.fstat(log).st_size > LOG_BYTES:
            os.ftruncate(log, 0)

    def _strike(self, i: int, why: str) -> None:
        self._in_a_row[i] += 1
        if self._in_a_row[i] >= PATIENCE:
            times = f"{PATIENCE} times in a row, without one whole episode"
            raise WorldFailed(f"{self.env.spec.name}: world {i} was lost {times}; the last time {why}")

    def _restart(self, failed: dict[int, str]) -> None:
        """New processes for those that failed, each at its next episode."""
        while failed:
            for i, why in failed.items():
                self._episode[i] += 1
                self._strike(i, why)
                self._remove(i)
            failed = self._spawn_and_wait(failed)

    # -- processes -------------------------------------------------------------------------------------------------------

    def _begin(self, worlds: Iterable[int]) -> None:
        failed = self._spawn_and_wait(worlds)
        if failed:
            why = next(iter(failed.values()))
            raise WorldFailed(f"{self.env.spec.name} does not start: {why}")

    def _spawn_and_wait(self, worlds: Iterable[int]) -> dict[int, str]:
        """Which of them did not show their first decision in time, and why."""
        worlds = list(worlds)
        for i in worlds:
            self._spawn(i)
            self._asked_at[i] = time.monotonic()
        return self._answers(worlds, START * self.env.timeout)

    def _spawn(self, i: int) -> None:
        job = {
            "factory": self.env.factory,
            "settings": dict(self.env.settings),
            "sizes": self._sizes,
            "world": i,
            "episode": self._episode[i],
            "seed": self.seed,
        }
        self._workers[i] = launch(job, self._memory_fd)

    def _remove(self, i: int) -> None:
        self._workers.pop(i).end(0.0)

    # -- answers ---------------------------------------------------------------------------------------------------------

    def _answers(self, worlds: Iterable[int], timeout: float) -> dict[int, str]:
        """Waits for every world's answer. Which of them failed, and why."""
        pending = {self._workers[i].channel.fileno(): i for i in worlds}
        poll, failed = select.poll(), {}
        for fd in pending:
            poll.register(fd, select.POLLIN)
        while pending:
            ready = poll.poll(_milliseconds_to(max(self._asked_at[i] for i in pending.values()) + timeout))
            if not ready:
                return failed | {i: f"it gave no answer for {timeout:g} s" for i in pending.values()}
            for fd, _ in ready:
                poll.unregister(fd)
                i = pending.pop(fd)
                why = self._answer(self._workers[i])
                if why is not None:
                    failed[i] = why
        return failed

    def _answer(self, worker: Process) -> str | None:
        """None if all is well.

        Raises:
            WorldFailed: what is wrong is the user's to solve.
        """
        try:
            answer = worker.channel.recv(1 << 16)
        except OSError:
            answer = b""
        if answer == FINE:
            return None
        if not answer:
            return worker.obituary()
        line = json.loads(answer)
        if line["final"]:
            raise WorldFailed(line["error"])
        return line["error"]


def _milliseconds_to(deadline: float) -> float:
    return 1000 * max(0.0, deadline - time.monotonic())


def _end_all(workers: dict[int, Process], memory_fd: int) -> None:
    for each in workers.values():
        with suppress(OSError):
            each.channel.shutdown(socket.SHUT_WR)  # all close their worlds at the same time
    for each in workers.values():
        each.end(GRACE)
    workers.clear()
    os.close(memory_fd)
