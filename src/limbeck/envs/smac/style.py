"""How battles look in every picture: colours, and a shape and a letter for each kind of unit."""

import math
from pathlib import Path

import matplotlib
from PIL import ImageFont

COLOURS = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "faint": "#646a73",
    "line": "#d5d7da",
    "wall": "#c9ccd1",
    "hatch": "#b7bbc2",
    "floor": "#f7f5f0",
    "grid": "#ece9e1",
    "edge": "#7d828a",
    "cliff": "#dccbb0",
    "crag": "#b99f78",
    "passage": "#efe6cf",
    "ally": "#0072b2",
    "enemy": "#d55e00",
    "sight": "#dcebf5",
    "health": "#009e73",
    "low": "#f0c000",
    "shield": "#56b4e9",
    "energy": "#cc79a7",
    "heal": "#009e73",
    "empty": "#e4e6e8",
}
"""Okabe and Ito's colours for what must be told apart by everybody; the ground stays behind them"""

LOW = 1 / 3
"""the share of its health below which a unit's bar changes its colour"""

Polygon = tuple[tuple[float, float], ...]
"""points around the origin, y upwards, for a body of radius 1"""


def star(points: int, turn: float, inner: float = 1.0, outer: float = 1.0) -> Polygon:
    """`points` corners, the first `turn` of a full turn from the east; with dents between them if `inner` is given."""
    n = points if inner == 1.0 else 2 * points
    radii = [outer if i % 2 == 0 or n == points else inner for i in range(n)]
    angles = [2 * math.pi * (i / n + turn) for i in range(n)]
    return tuple((round(r * math.cos(a), 3), round(r * math.sin(a), 3)) for r, a in zip(radii, angles, strict=True))


ROUND = star(32, 0)
CROSS = (
    *((1, -0.42), (1, 0.42), (0.42, 0.42), (0.42, 1), (-0.42, 1), (-0.42, 0.42)),
    *((-1, 0.42), (-1, -0.42), (-0.42, -0.42), (-0.42, -1), (0.42, -1), (0.42, -0.42)),
)
SHAPES: dict[str, Polygon] = {
    "marine": ROUND,
    "marauder": star(6, 0, outer=1.05),
    "medivac": CROSS,
    "stalker": star(4, 0.25, outer=1.15),
    "zealot": star(4, 0.125, outer=1.2),
    "colossus": star(8, 1 / 16, outer=1.05),
    "hydralisk": star(5, 0.25, outer=1.12),
    "zergling": star(3, 0.25, outer=1.3),
    "baneling": star(10, 0.25, inner=0.78, outer=1.15),
    "spine_crawler": star(3, 0.75, outer=1.3),
}
SIGNS = {
    "marine": "M",
    "marauder": "R",
    "medivac": "V",
    "stalker": "S",
    "zealot": "Z",
    "colossus": "C",
    "hydralisk": "H",
    "zergling": "L",
    "baneling": "B",
    "spine_crawler": "P",
}
"""a letter of its name that no other kind has"""


def shape_of(kind: str) -> Polygon:
    """The outline of a kind's bodies."""
    return SHAPES.get(kind, ROUND)


def sign_of(kind: str) -> str:
    """A kind's letter."""
    return SIGNS.get(kind, kind[:1].upper())


def plain(kind: str, number: int = 1) -> str:
    """A kind as people write it."""
    name = kind.replace("_", " ")
    return name if number == 1 else LATIN.get(kind, name + "s")


LATIN = {"colossus": "colossi"}


def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A typeface that knows every letter in which somebody may have named a run: the one that matplotlib brings along."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), max(round(size), 1))


def bar_colour(share: float) -> str:
    """Of a health bar."""
    return COLOURS["health" if share > LOW else "low"]
