"""B copies of a host world in worker processes, stepped together. A process that crashes or hangs is replaced."""

import json
import mmap
import os
import select
import socket
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from limbeck.envs.host import HostEnv
from limbeck.envs.process import START, Process, anonymous_memory, launch
from limbeck.envs.worker import FINE, GRACE, ORDER, STEP, Shared, shared_forms, size_of, view
from limbeck.errors import WorldFailed
from limbeck.types import Observation, Outcome

PATIENCE = 5
"""losses of one world in a row, without a whole episode between them, before it is given up"""
LOG_BYTES = 1 << 20
ALL = slice(None)


class Order(NamedTuple):
    """What a process was told to do."""

    worlds: range
    seconds: float
    """that it may take, once the orders before it are done"""
    tape: int | None = None
    """where a segment is written down, if it is about one"""


class Workers:
    """B worlds that start a new episode where one has ended, like `AutoReset`, but in processes of their own.

    Args:
        env: the world.
        n: how many (B).
        seed: of all chance in them, together with the world's place and the number of the episode.
        further: memory that the processes share besides, by its descriptor; closed with the workers.

    Raises:
        WorldFailed: the world cannot be started.
        LimbeckError: whatever the world's factory says is the user's to solve.
    """

    def __init__(self, env: HostEnv, n: int, seed: int = 0, further: Sequence[int] = ()):
        self.env, self.n, self.seed = env, n, seed
        self.losses: list[str] = []
        """why each lost episode was lost"""
        self._sizes = env.sizes(n)
        forms = shared_forms(self._sizes)
        self._memory = [anonymous_memory(size_of(forms)), *further]
        self._shared = Shared(*view(mmap.mmap(self._memory[0], 0), forms))
        self._episode = [0] * n
        self._in_a_row = [0] * n
        self._busy = np.zeros(n, bool)  # worlds that an order is about
        self._gone: dict[int, str] = {}  # worlds whose episode was lost, which nobody has been told yet
        self._homes = env.homes(n)
        self._orders: list[deque[Order]] = [deque() for _ in self._homes]
        self._since = [0.0] * len(self._homes)  # when the first of a process's orders was its turn
        self._poll, self._home_of = select.poll(), dict[int, int]()
        self._workers: dict[int, Process] = {}
        self.close = weakref.finalize(self, _end_all, self._workers, self._memory)
        try:
            self._begin()
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
        return [self._workers[home].process.pid for home, worlds in enumerate(self._homes) for _ in worlds]

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
        """The first half of `step`: worlds are on their way, all of them or some that have been received."""
        self._shared.action[some] = action
        for home, worlds in self._at_home(self._places(some)):
            self._order(home, Order(worlds, self.env.timeout * len(worlds)))
            with suppress(OSError):  # it will be found gone
                self._workers[home].channel.send(ORDER.pack(STEP, worlds.start, worlds.stop, 0, 0))

    def first(self, sent: Sequence[slice]) -> int:
        """Which of the parts that were sent is the first in this row whose worlds have all answered, once one has.

        Raises:
            WorldFailed: see `step`.
        """
        while True:
            for k, some in enumerate(sent):
                if not self._busy[some].any():
                    return k
            self._hear()

    def receive(self, some: slice = ALL) -> tuple[Outcome, Observation]:
        """The second half of `step`: what became of the worlds that were sent.

        Raises:
            WorldFailed: see `step`.
        """
        self.first([some])
        places = self._places(some)
        failed = {i for i in places if i in self._gone}
        for i in failed:
            self._write_off(i, self._gone.pop(i))
        shared = self._shared
        arrays = (shared.reward, shared.terminated, shared.truncated, shared.won, shared.lost)
        came: Any = [array[some].copy() for array in arrays]
        outcome = Outcome(*came[:3], info=dict(zip(("won", "lost"), came[3:], strict=True)))
        for i, over in zip(places, outcome.terminated | outcome.truncated, strict=True):
            if over and i not in failed:
                self._over(i, bool(self._shared.lost[i]))
        return outcome, self.observe(some)

    def _places(self, some: slice) -> range:
        return range(self.n)[some]

    def _at_home(self, places: range) -> Iterator[tuple[int, range]]:
        """Process by process the worlds in a row that still are where they are believed to be."""
        for home, worlds in enumerate(self._homes):
            start, stop = max(places.start, worlds.start), min(places.stop, worlds.stop)
            for i in range(start, stop):
                if i in self._gone:
                    if start < i:
                        yield home, range(start, i)
                    start = i + 1
            if start < stop:
                yield home, range(start, stop)

    # -- losses ----------------------------------------------------------------------------------------------------------

    def _write_off(self, i: int, why: str) -> None:
        """The episode of a lost world ends here."""
        shared = self._shared
        shared.reward[i], shared.terminated[i], shared.won[i] = 0.0, False, False
        shared.truncated[i] = shared.lost[i] = True
        self.losses.append(f"world {i}: {why}")

    def _over(self, i: int, lost: bool) -> None:
        """A world has gone on to the next episode by itself; it may have said that this one was lost."""
        self._episode[i] += 1
        if lost:
            self.losses.append(f"world {i}: it reported the loss of an episode")
            self._strike(i, "it said so itself")
        else:
            self._in_a_row[i] = 0
        log = self._workers[i // self.env.per_process].log.fileno()
        if os.fstat(log).st_size > LOG_BYTES:
            os.ftruncate(log, 0)

    def _strike(self, i: int, why: str) -> None:
        self._in_a_row[i] += 1
        if self._in_a_row[i] >= PATIENCE:
            times = f"{PATIENCE} times in a row, without one whole episode"
            raise WorldFailed(f"{self.env.spec.name}: world {i} was lost {times}; the last time {why}")

    def _lost(self, home: int, why: str) -> None:
        """A process is gone, or as good as gone. All its worlds begin their next episodes in another; nobody waits for it here."""
        self._end(home)
        for i in self._homes[home]:
            self._episode[i] += 1
            self._strike(i, why)
            self._gone[i] = why
        self._spawn(home)

    # -- processes -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for home in range(len(self._homes)):
            self._spawn(home)
        while self._busy.any():
            self._hear()
            if self._gone:
                raise WorldFailed(f"{self.env.spec.name} does not start: {next(iter(self._gone.values()))}")

    def _spawn(self, home: int) -> None:
        self._workers[home] = launch(self._job(home), self._memory)
        worlds = self._homes[home]
        self._order(home, Order(worlds, START * self.env.timeout * len(worlds)))

    def _job(self, home: int) -> dict[str, Any]:
        """What a new process is told."""
        worlds = self._homes[home]
        return {
            "factory": self.env.factory,
            "settings": dict(self.env.settings),
            "sizes": self._sizes,
            "first": worlds.start,
            "episodes": [self._episode[i] for i in worlds],
            "seed": self.seed,
        }

    def _end(self, home: int) -> None:
        self._orders[home].clear()
        self._idle(home)
        self._workers.pop(home).end(0.0)

    # -- orders and answers ----------------------------------------------------------------------------------------------

    def _order(self, home: int, order: Order) -> None:
        """It is expected to be carried out."""
        if not self._orders[home]:
            self._since[home] = time.monotonic()
            channel = self._workers[home].channel
            self._home_of[channel.fileno()] = home
            self._poll.register(channel, select.POLLIN)
        self._orders[home].append(order)
        self._busy[order.worlds.start : order.worlds.stop] = True

    def _done(self, home: int) -> None:
        """The first of a process's orders is carried out."""
        order = self._orders[home].popleft()
        more = any(each.worlds == order.worlds for each in self._orders[home])  # where a segment ahead has been asked for
        self._busy[order.worlds.start : order.worlds.stop] = more
        self._since[home] = time.monotonic()
        if not self._orders[home]:
            self._idle(home)

    def _idle(self, home: int) -> None:
        """Nothing is expected of a process."""
        fd = self._workers[home].channel.fileno()
        if self._home_of.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _hear(self) -> None:
        """Waits until some answer comes, or some time is over."""
        homes = self._home_of.values()
        late = min(homes, key=self._deadline)
        ready = self._poll.poll(1000 * max(0.0, self._deadline(late) - time.monotonic()))
        for home in [self._home_of[fd] for fd, _ in ready]:
            self._listen(home)
        if not ready and not self._moves_on(late):
            self._lost(late, f"it gave no answer for {self._orders[late][0].seconds:g} s")

    def _moves_on(self, home: int) -> bool:
        """Whether a process that is late has something to show for it, and may go on."""
        return False

    def _deadline(self, home: int) -> float:
        return self._since[home] + self._orders[home][0].seconds

    def _listen(self, home: int) -> None:
        """What a process says.

        Raises:
            WorldFailed: what is wrong is the user's to solve.
        """
        worker = self._workers[home]
        try:
            said = worker.channel.recv(1 << 16)
        except OSError:
            said = b""
        if not said:
            self._lost(home, worker.obituary())
        for answer in said.splitlines(keepends=True):
            if answer == FINE:
                self._done(home)
                continue
            line = json.loads(answer)
            if line["final"]:
                raise WorldFailed(line["error"])
            return self._lost(home, line["error"])


def _end_all(workers: dict[int, Process], memory: list[int]) -> None:
    for each in workers.values():
        with suppress(OSError):
            each.channel.shutdown(socket.SHUT_WR)  # all close their worlds at the same time
    for each in workers.values():
        each.end(GRACE)
    workers.clear()
    for fd in memory:
        os.close(fd)
