"""What workers that act by themselves share with the learner: what they act by, and what they write down. Needs numpy alone."""

import mmap
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from limbeck.envs.worker import Form, Sizes, view


class Acting(NamedTuple):
    """How segments are played; a worker is told it as JSON."""

    length: int
    """transitions of a segment (T)"""
    tapes: int
    """segments that may be under way: 2 where workers begin one while the one before is learned from"""
    programs: list[int]
    """bytes of each program: worlds that share a process act at once, and the last process may have fewer"""
    constants: list[Form]
    """what does not change in a segment: parameters, key, how much to explore"""
    carry: list[Form]
    """the leaves of the recurrent state, [B, ...]"""


class Tape(NamedTuple):
    """A segment of B worlds, and what acting in them needs. Each worker writes its own columns."""

    constants: list[np.ndarray]
    carry: list[np.ndarray]
    """before the segment"""
    carry_after: list[np.ndarray]
    seen: np.ndarray
    """[T+1, B, K]: decisions, each in one row of numbers; see `places`"""
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    won: np.ndarray
    lost: np.ndarray
    """[T, B, ...]"""
    made: np.ndarray
    """[B]: steps that are complete"""


def _tape_forms(sizes: Sizes, acting: Acting) -> list[Form]:
    t, b, flag = acting.length, sizes.worlds, (np.bool_, (acting.length, sizes.worlds))
    record: list[Form] = [
        (np.float32, (t + 1, b, width(sizes))),
        (np.int32, (t, b, sizes.n_agents)),
        (np.float32, (t, b)),
        *[flag] * 4,
        (np.int32, (b,)),
    ]
    return [*acting.constants, *acting.carry, *acting.carry, *record]


def acting_forms(sizes: Sizes, acting: Acting) -> list[Form]:
    """Of all arrays that workers who act share with the learner: programs and tapes."""
    return [*[(np.uint8, (size,)) for size in acting.programs], *_tape_forms(sizes, acting) * acting.tapes]


def acting_in(memory: mmap.mmap, sizes: Sizes, acting: Acting) -> tuple[list[np.ndarray], list[Tape]]:
    """The programs and the tapes in a piece of memory."""
    arrays = iter(view(memory, acting_forms(sizes, acting)))

    def tape() -> Tape:
        lists: Any = [list(islice(arrays, len(some))) for some in (acting.constants, acting.carry, acting.carry)]
        return Tape(*lists, *islice(arrays, len(Tape._fields) - len(lists)))

    return list(islice(arrays, len(acting.programs))), [tape() for _ in range(acting.tapes)]


def follow(tape: Tape, before: Tape, rows: slice) -> None:
    """A segment of some worlds begins where another has ended."""
    tape.seen[0, rows] = before.seen[-1, rows]
    for place, leaf in zip(tape.carry, before.carry_after, strict=True):
        place[rows] = leaf[rows]


def width(sizes: Sizes) -> int:
    """Numbers in a decision's row (K)."""
    return sum(int(np.prod(shape)) for _, shape in _fields(sizes).values())


def places(sizes: Sizes, rows: Any) -> dict[str, Any]:
    """Where in rows [..., K] a decision's fields are, [..., k] each; of numpy's arrays these are views."""
    at, found = 0, {}
    for name, (_, shape) in _fields(sizes).items():
        size = int(np.prod(shape))
        found[name] = rows[..., at : at + size]
        at += size
    return found


def packed(sizes: Sizes, fields: Mapping[str, Any], into: np.ndarray) -> None:
    """Writes a decision's fields [..., *] into rows [..., K]; those that are not given stay as they are."""
    for name, place in places(sizes, into).items():
        if name in fields:
            place[...] = fields[name].reshape(place.shape)


def unpacked(sizes: Sizes, rows: Any) -> dict[str, Any]:
    """Rows [..., K] -> a decision's fields [..., *], in numpy or inside jit: numbers that are whole come back as they were."""
    found = places(sizes, rows)
    return {name: found[name].reshape(*rows.shape[:-1], *shape).astype(kind) for name, (kind, shape) in _fields(sizes).items()}


def _fields(sizes: Sizes) -> dict[str, Form]:
    """A decision, but for its leading axes."""
    _, n, a, o, s = sizes
    return {
        "obs": (np.float32, (n, o)),
        "state": (np.float32, (s,)),
        "avail_actions": (np.bool_, (n, a)),
        "alive": (np.bool_, (n,)),
        "last_action": (np.int32, (n,)),
        "is_first": (np.bool_, ()),
    }
