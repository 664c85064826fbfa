"""Acting inside a worker process: what the learner exported is compiled here, and plays segments without asking anybody."""

import mmap
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from limbeck.envs.tape import Acting, Tape, acting_in, follow, places
from limbeck.envs.worker import SHOWN, Shared, Sizes

OUTCOME = ("reward", "terminated", "truncated", "won", "lost")


def _on_device(leaf: np.ndarray) -> Any:
    """A copy, for the tape changes. Said to be on a device, as results are: else they would not fit what was compiled for it."""
    return jax.device_put(leaf.copy(), jax.devices()[0])


class Actor:
    """Who acts in the worlds of a process, all at once.

    Args:
        job: the process's: of it `sizes`, `acting`, `program`, `home`, `homes`, `first` and `episodes` are read.
        shared: where the worlds show themselves.
        steps: of each world, makes the step that its row of `shared` asks for.
        memory: of programs and tapes.
    """

    def __init__(self, job: dict[str, Any], shared: Shared, steps: Sequence[Callable[[], None]], memory: mmap.mmap):
        jax.config.update("jax_cpu_enable_async_dispatch", False)  # it would hand every decision to another thread
        sizes, acting = Sizes(*job["sizes"]), Acting(*job["acting"])
        programs, tapes = acting_in(memory, sizes, acting)
        rows = slice(job["first"], job["first"] + len(steps))
        self._tapes, self._rows = tapes, rows
        self._columns = [_Columns(tape, shared, sizes, rows) for tape in tapes]
        self._asked, self._steps, self._length = shared.action[rows], steps, acting.length
        self._home, self._homes = job["home"], job["homes"]
        self._act = jax.jit(export.deserialize(bytearray(programs[job["program"]])).call)
        first = self._columns[0]
        self._act(first.constants(), [*first.carry(), self._number(0)], first.seen[0])  # compiled now: a segment has less time

    def play(self, tape: int, since: int, goes_on: bool) -> None:
        """From a step of a segment to its end.

        `goes_on`: after the segment that was played last. Otherwise the tape has the recurrent state, and the first decision's
        `last_action` and `is_first`.
        """
        at = self._columns[tape]
        if goes_on:
            follow(self._tapes[tape], self._tapes[tape - 1], self._rows)
        constants, carried = at.constants(), [*at.carry(), self._number(since)]
        at.show(since)
        for t in range(since, self._length):
            chosen, carried = self._act(constants, carried, at.seen[t])
            self._asked[:] = action = np.asarray(chosen)
            for step in self._steps:
                step()
            at.write(t, action)
        at.end(carried[:-1])

    def _number(self, since: int) -> Any:
        """That of the decision from which the segment is played: see `limbeck.acting.program`."""
        return _on_device(np.array(since * self._homes + self._home, np.int32))


class _Columns:
    """What of a tape is about the worlds of one process.

    What is copied in every step is looked up once: after an engine's step nothing that copying needs is near the core any more.
    """

    def __init__(self, tape: Tape, shared: Shared, sizes: Sizes, rows: slice):
        self._tape, self._rows = tape, rows
        self.seen, self._action, self._made = tape.seen[:, rows], tape.action[:, rows], tape.made[rows]
        there = places(sizes, self.seen)
        self._last_action, self._is_first = there["last_action"], there["is_first"]
        self._shown = [(getattr(shared, name)[rows].reshape(len(self._made), -1), there[name]) for name in SHOWN]
        self._came = [(getattr(shared, name)[rows], getattr(tape, name)[:, rows]) for name in OUTCOME]
        self._ends = tape.terminated[:, rows], tape.truncated[:, rows]

    def constants(self) -> list[Any]:
        """On the device, as the learner left them."""
        return [_on_device(leaf) for leaf in self._tape.constants]

    def carry(self) -> list[Any]:
        """On the device, as it was before the segment."""
        return [_on_device(leaf[self._rows]) for leaf in self._tape.carry]

    def show(self, t: int) -> None:
        """Writes down the decision that the worlds wait for."""
        for here, there in self._shown:
            there[t] = here

    def write(self, t: int, action: np.ndarray) -> None:
        """Writes down a step, and the decision after it."""
        for here, there in self._came:
            there[t] = here
        terminated, truncated = self._ends
        ended = (terminated[t] | truncated[t])[:, None]
        self._action[t] = action
        self._is_first[t + 1] = ended
        self._last_action[t + 1] = np.where(ended, -1, action)
        self.show(t + 1)
        self._made[:] = t + 1  # the last thing: what is counted is complete

    def end(self, carry: list[Any]) -> None:
        """Writes down the recurrent state after the segment."""
        for place, leaf in zip(self._tape.carry_after, carry, strict=True):
            place[self._rows] = leaf
