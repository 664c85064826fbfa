"""Workers that act by themselves: a segment is one order to each process, and nobody waits for anybody before its end."""

import mmap
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from limbeck.envs.host import HostEnv
from limbeck.envs.process import anonymous_memory
from limbeck.envs.tape import Acting, Tape, acting_forms, acting_in, follow, packed, unpacked
from limbeck.envs.worker import GO_ON, ORDER, PLAY, size_of
from limbeck.envs.workers import Order, Workers


class ActingWorkers(Workers):
    """`Workers` that can be told to `play`.

    Args:
        env: the world.
        n: how many (B).
        seed: as `Workers` has it.
        acting: what a segment needs.
        programs: `limbeck.acting.program` for the worlds of each process, and for those of the last where they are fewer.

    Raises:
        WorldFailed: the world cannot be started.
        LimbeckError: whatever the world's factory says is the user's to solve.
    """

    def __init__(self, env: HostEnv, n: int, seed: int, acting: Acting, programs: Sequence[bytes]):
        sizes = env.sizes(n)
        fd = anonymous_memory(size_of(acting_forms(sizes, acting)))
        places, self.tapes = acting_in(mmap.mmap(fd, 0), sizes, acting)
        for place, program in zip(places, programs, strict=True):
            place[:] = np.frombuffer(program, np.uint8)
        self._acting, self._begun, self._heard = acting, 0, 0
        homes = len(env.homes(n))
        self._played = [0] * homes  # segments
        self._counted = [0] * homes  # steps of the segment in play whose ends of episodes are known
        self._looked_at = [0] * homes  # steps of it that were made when the process was last found late
        super().__init__(env, n, seed, further=[fd])

    @property
    def free(self) -> Tape:
        """The tape for the segment that is played next."""
        return self.tapes[self._begun % len(self.tapes)]

    def play(self) -> None:
        """All worlds are to play a segment on the free tape, whose constants are there. Nobody waits for it here.

        The first segment begins with the tape's decision and recurrent state. So does every segment if there is only one tape;
        with more, each goes on where the worker has ended the one before.

        A process that is lost ends its worlds' episodes in the step that it was in: `truncated` and `lost`, as in `step`. Another
        takes its place for the rest of the segment.
        """
        at = self._begun % len(self.tapes)
        self._begun += 1
        self.tapes[at].made[:] = 0
        for home in range(len(self._homes)):
            self._tell(home, at, 0, self._begun > 1 and len(self.tapes) > 1)

    def played(self) -> Tape:
        """Waits for the first segment that has not been waited for yet. It may be read until `play` uses its tape again.

        Raises:
            WorldFailed: see `Workers.step`.
        """
        while min(self._played) <= self._heard:
            self._hear()
        self._heard += 1
        return self.tapes[(self._heard - 1) % len(self.tapes)]

    def _tell(self, home: int, tape: int, since: int, goes_on: bool) -> None:
        """A process is to play a segment in all its worlds, from a step on."""
        worlds = self._homes[home]
        self._order(home, Order(worlds, self.env.timeout * len(worlds), tape))
        order = ORDER.pack(GO_ON if goes_on else PLAY, worlds.start, worlds.stop, tape, since)
        with suppress(OSError):  # it will be found gone
            self._workers[home].channel.send(order)

    def _done(self, home: int) -> None:
        tape = self._orders[home][0].tape
        if tape is not None:
            self._count(home, tape)
            self._played[home] += 1
            self._counted[home] = self._looked_at[home] = 0
        super()._done(home)

    def _moves_on(self, home: int) -> bool:
        """It is late with a segment, but not with a step."""
        tape = self._orders[home][0].tape
        so_far = 0 if tape is None else int(self.tapes[tape].made[self._homes[home].start])
        if so_far == self._looked_at[home]:
            return False
        self._looked_at[home], self._since[home] = so_far, time.monotonic()
        return True

    def _count(self, home: int, at: int) -> None:
        """Takes note of the episodes that have ended since it was last asked."""
        worlds, tape, since = self._homes[home], self.tapes[at], self._counted[home]
        self._counted[home] = upto = int(tape.made[worlds.start])
        rows = slice(worlds.start, worlds.stop)
        for t, k in np.argwhere(tape.terminated[since:upto, rows] | tape.truncated[since:upto, rows]):
            self._over(worlds[int(k)], bool(tape.lost[since + t, worlds[int(k)]]))

    def _lost(self, home: int, why: str) -> None:
        ahead = [order.tape for order in self._orders[home] if order.tape is not None]
        starting = self._orders[home][0].tape is None
        if ahead:
            self._count(home, ahead[0])
        super()._lost(home, why)
        if not ahead:
            return
        for i in self._homes[home]:
            del self._gone[i]  # it is told here
            self.losses.append(f"world {i}: {why}")
        if not starting:  # else no step was begun since the last loss
            self._write_down(home, ahead[0])
        self._tell(home, ahead[0], self._counted[home], False)
        for at in ahead[1:]:
            self._tell(home, at, 0, True)

    def _write_down(self, home: int, at: int) -> None:
        """The step in which a process was lost, and of the decision after it what its successor does not know."""
        worlds, tape = self._homes[home], self.tapes[at]
        rows, t = slice(worlds.start, worlds.stop), min(self._counted[home], self._acting.length - 1)
        if t == 0 and self._played[home] and len(self.tapes) > 1:  # it may have had no time to show where it goes on
            follow(tape, self.tapes[at - 1], rows)
        tape.reward[t, rows] = 0
        tape.terminated[t, rows] = tape.won[t, rows] = False
        tape.truncated[t, rows] = tape.lost[t, rows] = True
        tape.action[t, rows] = unpacked(self._sizes, tape.seen[t, rows])["avail_actions"].argmax(-1)  # nobody learns from it
        tape.seen[t + 1, rows] = tape.seen[t, rows]
        nobody, first = np.full_like(tape.action[t, rows], -1), np.ones(len(worlds), bool)
        packed(self._sizes, {"last_action": nobody, "is_first": first}, tape.seen[t + 1, rows])
        tape.made[rows] = self._counted[home] = t + 1

    def _job(self, home: int) -> dict[str, Any]:
        fewer = len(self._homes[home]) < len(self._homes[0])
        place = {"home": home, "homes": len(self._homes), "program": int(fewer)}
        return super()._job(home) | {"actor": "limbeck.envs.actor:Actor", "acting": self._acting} | place
