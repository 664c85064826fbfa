"""Errors that a user can act on: one line that says what was wrong, what would be right, and what to do."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import Any


class LimbeckError(Exception):
    """The root of all errors that are the user's to solve. Its text is one line, fit for a console."""


class UnknownName(LimbeckError, LookupError):  # noqa: N818
    """A map, method or setting that does not exist."""


class BadSetting(LimbeckError, ValueError):  # noqa: N818
    """A setting that exists, with a value that makes no sense."""


class NotOffered(BadSetting):
    """A method that needs what a world does not have.

    Args:
        what: who needs what, and where it is missing.
        offers: `spec -> bool`, by which worlds that do have it can be found.
        instead: what would fit this world.
    """

    def __init__(self, what: str, offers: Callable[[Any], bool], instead: str):
        super().__init__(f"{what}; {instead}")
        self.offers = offers


class CheckpointError(LimbeckError):
    """A checkpoint that is missing, corrupt, or of another method or world; or that could not be written."""


class RunExists(LimbeckError, FileExistsError):  # noqa: N818
    """The folder of a new run is taken."""


class WorldFailed(LimbeckError, RuntimeError):  # noqa: N818
    """A world in a process of its own that cannot be started, or fails again and again."""


class Diverged(LimbeckError, ArithmeticError):  # noqa: N818
    """The loss is not a finite number any more."""


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """The user stopped a run. Its text says how to go on."""


def check_whole(settings: Any, **least: int) -> None:
    """Nothing, if each of the named settings is a whole number, and no less than is said here.

    Raises:
        BadSetting: one is not.
    """
    for name, lowest in least.items():
        value = getattr(settings, name)
        if type(value) is not int or value < lowest:
            raise BadSetting(f"{name} is a whole number from {lowest}, not {value}")


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for `name`, to be raised by the caller: it lists what is known, the nearest first.

    >>> str(unknown("mixer", "qmx", ["vdn", "qmix"]))
    "unknown mixer 'qmx'; did you mean 'qmix'? Known: qmix, vdn"
    """
    ranked = sorted(known, key=lambda each: (-SequenceMatcher(None, name.lower(), each.lower()).ratio(), each))
    if not ranked:
        return UnknownName(f"unknown {kind} '{name}'; there is none to choose from")
    near = SequenceMatcher(None, name.lower(), ranked[0].lower()).ratio() >= 0.5
    question = f"did you mean '{ranked[0]}'? " if near else ""
    return UnknownName(f"unknown {kind} '{name}'; {question}Known: {', '.join(ranked)}")


@contextmanager
def in_one_line(program: str) -> Iterator[None]:
    """What ends a program is told in a line that begins with its name."""
    try:
        yield
    except LimbeckError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as how:
        print(f"{program}: {how}", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        sys.exit(130)
