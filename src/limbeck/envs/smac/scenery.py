"""The ground of a battle as pictures need it: which cells are what, in rectangles, and the lines where walking ends."""

from typing import NamedTuple

import numpy as np

from limbeck.envs.smac.skirmish import Battle
from limbeck.envs.smac.terrain import SIZE, Rectangle, cells, runs

Line = tuple[int, int, int, int]
"""x0, y0, x1, y1: from corner to corner of cells"""


class Scenery(NamedTuple):
    """Everything that is not listed here is wall."""

    floor: list[Rectangle]
    """may be walked on"""
    passages: list[Rectangle]
    """may be crossed, though no order to move may name it"""
    cliffs: list[Rectangle]
    """only those who climb may cross it"""
    edges: list[Line]
    """around all that may be walked on or crossed on foot"""


def scenery(battle: Battle) -> Scenery:
    """The ground of a battle."""
    floor = cells(battle.walkable)
    passages = cells(battle.passages) & ~floor
    cliffs = cells(battle.cliffs) & ~floor & ~passages
    return Scenery(rectangles(floor), rectangles(passages), rectangles(cliffs), outline(floor | passages))


def rectangles(ground: np.ndarray) -> list[Rectangle]:
    """Few rectangles that cover the ground, each cell once: rows of cells, joined where they are equally long."""
    found: list[Rectangle] = []
    open_runs: dict[tuple[int, int], int] = {}
    for y in range(SIZE + 1):
        now = set(runs(ground[:, y])) if y < SIZE else set()
        found += [(x0, begun, x1, y) for (x0, x1), begun in open_runs.items() if (x0, x1) not in now]
        open_runs = {run: open_runs.get(run, y) for run in sorted(now)}
    return found


def outline(ground: np.ndarray) -> list[Line]:
    """The straight lines between ground and what is not, without the rim of the map."""
    across = [(x0, y, x1, y) for y in range(1, SIZE) for x0, x1 in runs(ground[:, y - 1] != ground[:, y])]
    return across + [(x, y0, x, y1) for x in range(1, SIZE) for y0, y1 in runs(ground[x - 1] != ground[x])]
