"""One worker process, seen from its parent: how it is started, watched and ended, with all that it has started itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.envs import worker as program
from limbeck.errors import WorldFailed

START = 5
"""how many times longer than for a step a worker may take to start"""
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
"""for the workers, unless set already: they share the cores, and leave the accelerator to the learner"""
ON_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false --xla_cpu_enable_concurrency_optimized_scheduler=false"
"""for workers that act: handing a part of a small program to another thread takes longer than the part (decision 14)"""


@dataclass
class Process:
    """A process, and the three threads that hold it."""

    process: subprocess.Popen
    channel: socket.socket
    lifeline: int
    """the end that the process watches: it must stay open"""
    log: Any

    def last_words(self) -> str:
        """The last line that the process wrote to its error stream."""
        self.log.seek(max(0, os.fstat(self.log.fileno()).st_size - 4096))
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""

    def obituary(self) -> str:
        """Why it closed its channel."""
        self.kill()  # if it only closed its channel; a process that has ended keeps its own exit code
        return f"its process ended ({_code(self.process.wait())}){self.last_words()}"

    def kill(self) -> None:
        """Ends the process and whatever it has started: they are a group of their own."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, grace: float) -> None:
        """The end, after so many seconds at most in which the world may close itself."""
        with suppress(OSError):
            self.channel.settimeout(grace)
            while self.channel.recv(4096):  # its end is the process's
                pass
        self.kill()
        self.process.wait()
        self.channel.close()
        os.close(self.lifeline)
        self.log.close()


def launch(job: Mapping[str, Any], memory: Sequence[int]) -> Process:
    """A process of the program in `worker`, with its job: `factory`, `settings`, `sizes`, and what belongs to the world's place.

    `memory` are the descriptors of what is shared with it.
    """
    ours, theirs = socket.socketpair()
    watched, lifeline = os.pipe()
    log = tempfile.TemporaryFile("a+b")  # noqa: SIM115  (closed with the worker)
    inherited = [theirs.fileno(), watched, *memory]
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(program.__file__).resolve()), *map(str, inherited)],
        pass_fds=inherited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        env=QUIET | os.environ | _flags("actor" in job),
        start_new_session=True,  # Ctrl-C is the learner's to handle; and what a game starts is killed with it
    )
    theirs.close()
    os.close(watched)
    path = [path or os.getcwd() for path in sys.path]
    with suppress(OSError):
        ours.sendall(json.dumps({**job, "path": path}).encode() + b"\n")
    return Process(process, ours, lifeline, log)


def _flags(acts: bool) -> dict[str, str]:
    return {"XLA_FLAGS": f"{ON_ONE_THREAD} {os.environ.get('XLA_FLAGS', '')}".strip()} if acts else {}


def ask(name: str, factory: str, settings: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The `facts()` that a world tells about itself, in a process that ends with the answer. Here nothing of it is imported.

    `name` is for errors; `factory`, `settings` and `timeout` are those of `HostEnv`.

    Raises:
        WorldFailed: it cannot be made, or says nothing.
    """
    memory_fd = anonymous_memory(1)
    process = launch({"factory": factory, "settings": dict(settings), "sizes": None}, [memory_fd])
    try:
        process.channel.settimeout(START * timeout)
        answer = process.channel.makefile("rb").readline()
        said = json.loads(answer) if answer else {"error": process.obituary(), "final": False}
    except TimeoutError:
        said = {"error": f"it gave no answer for {START * timeout:g} s", "final": False}
    finally:
        process.end(0.0)
        os.close(memory_fd)
    if "error" in said:
        raise WorldFailed(said["error"] if said["final"] else f"{name} does not start: {said['error']}")
    return said["facts"]


def anonymous_memory(size: int) -> int:
    """A file without a name: it vanishes with the last process that has it open, however that ends."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("limbeck")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def _code(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
