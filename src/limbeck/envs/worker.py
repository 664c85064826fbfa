"""The program of a worker process: it builds host worlds and steps them when told to. `workers` starts it by its path.

Numbers travel through a piece of shared memory (`Shared`); a socket says what to do and that it has been done; a pipe that nobody
writes to tells by its end that the parent is gone. Nothing is pickled. This file needs numpy alone: a process costs a tenth of a
second and 25 MB before the world itself, unless it is to act as well (`actor`).
"""

import contextlib
import importlib
import importlib.util
import json
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any, NamedTuple

import numpy as np

ORDER = struct.Struct("<BIIBI")
"""STEP: from which world to before which one. PLAY and GO_ON: on which tape, and from which step to the segment's end"""
STEP, PLAY, GO_ON = range(3)
"""the last two act in all worlds: from the recurrent state on the tape, or from where the segment before has ended"""
FINE = b"+\n"
"""the answer to an order; what is no such line is an error"""
GRACE = 5.0
"""seconds that a world has for closing itself"""


class Sizes(NamedTuple):
    """B worlds of N agents with A actions, observations of O and a state of S numbers."""

    worlds: int
    n_agents: int
    n_actions: int
    obs_dim: int
    state_dim: int


SHOWN = ("obs", "state", "avail_actions", "alive")
"""what a world shows, in the order of `HostWorld.observe`"""


class Shared(NamedTuple):
    """What parent and workers show each other, [B, ...]. Each worker writes its own row."""

    obs: np.ndarray
    state: np.ndarray
    reward: np.ndarray
    action: np.ndarray
    avail_actions: np.ndarray
    alive: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    won: np.ndarray
    lost: np.ndarray
    """the world itself failed: its episode is no episode"""


Form = tuple[Any, tuple[int, ...]]
"""type and shape of an array"""
LINE = 64
"""bytes; arrays begin at multiples of it"""


def shared_forms(sizes: Sizes) -> list[Form]:
    """Those of `Shared`, in its order."""
    b, n, a, o, s = sizes
    number, flag = np.float32, np.bool_
    forms: list[Form] = [
        (number, (b, n, o)),
        (number, (b, s)),
        (number, (b,)),
        (np.int32, (b, n)),
        (flag, (b, n, a)),
        (flag, (b, n)),
    ]
    return [*forms, *[(flag, (b,))] * 4]


def size_of(forms: list[Form]) -> int:
    """Bytes that the arrays take."""
    return sum(map(_room, forms))


def view(memory: mmap.mmap, forms: list[Form]) -> list[np.ndarray]:
    """The arrays in a piece of memory."""
    arrays, offset = [], 0
    for form in forms:
        kind, shape = form
        arrays.append(np.ndarray(shape, kind, memory, offset))
        offset += _room(form)
    return arrays


def _room(form: Form) -> int:
    kind, shape = form
    return -(-np.dtype(kind).itemsize * int(np.prod(shape)) // LINE) * LINE


def main() -> None:
    """Serves until the parent says otherwise, or is gone."""
    fds = [int(word) for word in sys.argv[1:]]
    del sys.argv[1:]  # games look there for options of their own
    for fd in fds:
        os.set_inheritable(fd, False)
    channel_fd, lifeline, memory_fd, *further = fds
    threading.Thread(target=_follow_parent, args=(lifeline,), daemon=True).start()
    channel = socket.socket(fileno=channel_fd)
    try:
        orders = channel.makefile("rb")  # one reader for all that comes: it may have read on when it has the job
        job = json.loads(orders.readline())
        sys.path[:] = job["path"]
        _open_lightly("limbeck")
        if job["sizes"] is None:  # it is only asked what it is
            facts = build(job["factory"], job["settings"]).facts()
            channel.sendall(json.dumps({"facts": facts}).encode() + b"\n")
            return
        shared = Shared(*view(mmap.mmap(memory_fd, 0), shared_forms(Sizes(*job["sizes"]))))
        seats = [_Seat(job, shared, i) for i in range(len(job["episodes"]))]
        actor = None
        if "actor" in job:  # it acts by itself, and needs JAX
            actor = named(job["actor"])(job, shared, [seat.step for seat in seats], mmap.mmap(further[0], 0))
        _serve(channel, orders, seats, job["first"], actor)
    except Exception as error:
        import traceback

        traceback.print_exc()  # into the worker's log
        _complain(channel, error)
        sys.exit(1)


def build(factory: str, settings: dict[str, Any]) -> Any:
    """The world that `package.module:function` makes of the settings."""
    return named(factory)(**settings)


def named(what: str) -> Any:
    """What is called `package.module:name`."""
    module, _, name = what.partition(":")
    return getattr(importlib.import_module(module), name)


def episode_seed(seed: int, world: int, episode: int) -> int:
    """The chance of one episode: 31 bits that depend on these three alone."""
    return int(np.random.SeedSequence([seed, world, episode]).generate_state(1)[0] >> 1)


def _serve(channel: socket.socket, orders: Any, seats: "list[_Seat]", first: int, actor: Any) -> None:
    channel.sendall(FINE)
    while len(order := orders.read(ORDER.size)) == ORDER.size:
        kind, start, stop, tape, since = ORDER.unpack(order)
        if kind != STEP:
            actor.play(tape, since, kind == GO_ON)
        else:
            for seat in seats[start - first : stop - first]:
                seat.step()
        channel.sendall(FINE)
    for seat in seats:
        seat.world.close()


class _Seat:
    """One world of this process, at its row of the shared arrays."""

    def __init__(self, job: dict[str, Any], shared: Shared, i: int):
        self.world = build(job["factory"], job["settings"])
        self._seed, self._row, self._episode = job["seed"], job["first"] + i, job["episodes"][i]
        self._shared = shared
        self._begin()
        self._show()

    def step(self) -> None:
        """One step; where it ends an episode, the next one's first decision is shown."""
        shared, row = self._shared, self._row
        reward, terminated, truncated, info = self.world.step(shared.action[row].copy())
        shared.reward[row], shared.won[row] = reward, info.get("won", False)
        shared.terminated[row], shared.truncated[row] = terminated, truncated and not terminated
        shared.lost[row] = info.get("lost", False)
        if terminated or truncated:
            self._episode += 1
            self._begin()
        self._show()

    def _begin(self) -> None:
        self.world.reset(episode_seed(self._seed, self._row, self._episode))

    def _show(self) -> None:
        """The decision that the world waits for."""
        for name, seen in zip(SHOWN, self.world.observe(), strict=True):
            place, array = getattr(self._shared, name)[self._row], np.asarray(seen)
            if array.shape != place.shape:  # numpy would stretch it
                raise ValueError(f"{name} has shape {list(array.shape)}; by the spec it must be {list(place.shape)}")
            place[...] = array


def _complain(channel: socket.socket, error: Exception) -> None:
    """One line to the parent. An error of limbeck's own is the user's to solve: trying again would not help."""
    known = sys.modules.get("limbeck.errors")
    final = known is not None and isinstance(error, known.LimbeckError)
    text = " ".join(str(error).split()) or "no more is known"
    line = {"error": text[:1000] if final else f"{type(error).__name__}: {text}"[:1000], "final": final}
    with contextlib.suppress(OSError):
        channel.sendall(json.dumps(line).encode() + b"\n")


def _follow_parent(lifeline: int) -> None:
    """Nothing survives a parent that was killed: neither this process, if it hangs, nor the game that it has started."""
    os.read(lifeline, 1)
    time.sleep(GRACE)
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _open_lightly(name: str) -> None:
    """Makes a package's modules importable without running its `__init__`, which comes after all if somebody asks for its names.

    That of limbeck loads JAX: 1.5 s and 200 MB, of no use to a world in numpy.
    """
    spec = importlib.util.find_spec(name)
    loader = spec and spec.loader
    if spec is None or loader is None:
        return
    package = importlib.util.module_from_spec(spec)

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load
    sys.modules[name] = package


if __name__ == "__main__":
    main()
