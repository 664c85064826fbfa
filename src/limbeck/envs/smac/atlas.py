"""A battle before it begins, as an SVG picture: ground, places, armies, and where the enemies are sent."""

from collections.abc import Iterator, Sequence
from html import escape

import jax
import numpy as np

from limbeck.envs.smac.facts import FixedFacts
from limbeck.envs.smac.scenery import scenery
from limbeck.envs.smac.skirmish import Skirmish
from limbeck.envs.smac.style import COLOURS, shape_of, sign_of
from limbeck.envs.smac.terrain import SIZE, Rectangle
from limbeck.envs.smac.units import UnitType
from limbeck.envs.smac.world import Smac

CELL = 20
"""units of the drawing per cell"""
MARGIN = 1
"""cells around what may be walked on"""
FLATTEST = 0.55
"""a picture's height is at least this share of its width"""
FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"'
RULER = 9
"""cells: SMAC's sight range, for scale"""


def map_svg(env: Smac) -> str:
    """The picture of a battle, with the first of the formations in which its armies may appear; a skirmish as drawn once."""
    kinds, places = _armies(env)
    land = scenery(env.map)
    x0, y0, x1, y1 = box = _window([*land.floor, *land.passages, *land.cliffs])
    wide, high = CELL * (x1 - x0), CELL * (y1 - y0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" {FONT}>',
        f"<title>{escape(env.spec.name)}: where it is fought, and who begins where</title>",
        f"<defs>{_hatching('wall', 'hatch', 45)}{_hatching('cliff', 'crag', -45)}{_grid()}{_arrowhead()}</defs>",
        f'<rect width="{wide}" height="{high}" fill="url(#wall)"/>',
    ]
    parts += [f'<g transform="translate({-CELL * x0} {CELL * y1}) scale(1 -1)">']  # from here on, north is up
    for rectangles, fill in ((land.floor, COLOURS["floor"]), (land.passages, COLOURS["passage"]), (land.cliffs, "url(#cliff)")):
        parts += [_rect(each, fill) for each in rectangles]
    parts += [_rect(each, "url(#grid)") for each in (*land.floor, *land.passages)]
    strokes = "".join(f"M{CELL * a} {CELL * b}L{CELL * c} {CELL * d}" for a, b, c, d in land.edges)
    parts.append(f'<path d="{strokes}" stroke="{COLOURS["edge"]}" stroke-width="2.5" stroke-linecap="square"/>')
    parts += [*_units(env, kinds, places), *_orders(env, places), *_spawn_points(env), "</g>"]
    parts += [*_signs(kinds, places, box), *_ruler(high)]
    parts += [f'<rect x=".5" y=".5" width="{wide - 1}" height="{high - 1}" fill="none" stroke="{COLOURS["edge"]}"/>', "</svg>"]
    return "\n".join(parts) + "\n"


def _window(ground: list[Rectangle]) -> Rectangle:
    """What is shown: all that matters, and some wall around it; no flatter than pictures should be."""
    corners = np.array(ground)
    low = np.maximum(corners[:, :2].min(axis=0) - MARGIN, 0)
    high = np.minimum(corners[:, 2:].max(axis=0) + MARGIN, SIZE)
    size = np.maximum(high - low, np.ceil(FLATTEST * (high - low)[::-1]).astype(int))
    low = np.clip((low + high - size) // 2, 0, SIZE - size)
    return int(low[0]), int(low[1]), int(low[0] + size[0]), int(low[1] + size[1])


def _hatching(name: str, line: str, turn: int) -> str:
    return (
        f'<pattern id="{name}" width="9" height="9" patternUnits="userSpaceOnUse" patternTransform="rotate({turn})">'
        f'<rect width="9" height="9" fill="{COLOURS[name]}"/><path d="M0 0V9" stroke="{COLOURS[line]}" stroke-width="2"/></pattern>'
    )


def _grid() -> str:
    return (
        f'<pattern id="grid" width="{CELL}" height="{CELL}" patternUnits="userSpaceOnUse">'
        f'<path d="M0 {CELL}V0H{CELL}" fill="none" stroke="{COLOURS["grid"]}" stroke-width="2"/></pattern>'
    )


def _arrowhead() -> str:
    return (
        '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="{COLOURS["enemy"]}"/></marker>'
    )


def _rect(rectangle: Rectangle, fill: str) -> str:
    x0, y0, x1, y1 = (CELL * each for each in rectangle)
    return f'<rect x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}" fill="{fill}"/>'


def _orders(env: Smac, units: np.ndarray) -> Iterator[str]:
    """Where the enemies attack-move to: a dashed arrow, or the stretch on which the place is drawn."""
    goal = env.facts.attack_point
    if goal is None:
        return
    places = np.array(goal, float).reshape(-1, 2)
    army, end = units[env.facts.enemies], places.mean(axis=0)
    middle = army.mean(axis=0)
    ahead = (end - middle) / np.linalg.norm(end - middle)
    start = middle + ahead * (0.5 + ((army - middle) @ ahead).max())  # in front of the army
    style = f'stroke="{COLOURS["enemy"]}" stroke-width="2.5" stroke-dasharray="7 6" opacity=".8"'
    yield f'<path d="M{_n(CELL * start)}L{_n(CELL * end)}" fill="none" {style} marker-end="url(#head)"/>'
    if len(places) > 1:
        yield f'<path d="M{_n(CELL * places[0])}L{_n(CELL * places[1])}" {style}/>'


def _spawn_points(env: Smac) -> Iterator[str]:
    """A cross where each group appears."""
    if isinstance(env.map, Skirmish):
        return
    for allied in (True, False):
        for point in dict.fromkeys(group.point for group in env.map.groups(allied) if group.point):
            x, y = (CELL * each for each in point)
            cross = f"M{x - 5:.1f} {y:.1f}h10M{x:.1f} {y - 5:.1f}v10"
            for wide, colour in ((3, "#fff"), (1.5, COLOURS["ink"])):
                yield f'<path d="{cross}" stroke="{colour}" stroke-width="{wide}"/>'


def _units(env: Smac, kinds: Sequence[UnitType], places: np.ndarray) -> Iterator[str]:
    for unit, (kind, place) in enumerate(zip(kinds, places, strict=True)):
        points = " ".join(_n(CELL * (place + kind.radius * np.array(corner)), ",") for corner in shape_of(kind.name))
        colour = COLOURS["ally" if unit < env.facts.n_allies else "enemy"]
        yield f'<polygon points="{points}" fill="{colour}" fill-opacity=".93" stroke="#fff" stroke-width="1.2"/>'


def _signs(kinds: Sequence[UnitType], places: np.ndarray, box: Rectangle) -> Iterator[str]:
    """The letters on the bodies: apart from them, for they must not stand on their heads."""
    for kind, place in zip(kinds, places, strict=True):
        x, y = CELL * (place[0] - box[0]), CELL * (box[3] - place[1])
        size = 1.05 * kind.radius * CELL
        yield (
            f'<text x="{x:.1f}" y="{y + 0.36 * size:.1f}" font-size="{size:.1f}" font-weight="700" text-anchor="middle" '
            f'fill="#fff">{sign_of(kind.name)}</text>'
        )


def _ruler(high: int) -> Iterator[str]:
    y, long = high - 12, CELL * RULER
    yield f'<rect x="6" y="{y - 20}" width="{long + 16}" height="26" rx="4" fill="#fff" fill-opacity=".85"/>'
    yield f'<path d="M14 {y - 5}v5H{14 + long}v-5" fill="none" stroke="{COLOURS["ink"]}" stroke-width="1.5"/>'
    yield f'<text x="{14 + long / 2}" y="{y - 6}" font-size="12" text-anchor="middle" fill="{COLOURS["ink"]}">{RULER} cells</text>'


def _armies(env: Smac) -> tuple[Sequence[UnitType], np.ndarray]:
    """What all units are, and where: [U, 2]."""
    if isinstance(env.facts, FixedFacts):
        return env.facts.kinds, env.facts.formations[0].T.astype(float)
    drawn = env.snapshot(jax.jit(env.reset)(jax.random.key(0)))
    return env.facts_of(drawn).kinds, np.stack([drawn.x, drawn.y], axis=1).astype(float)


def _n(place: np.ndarray, between: str = " ") -> str:
    return f"{place[0]:.1f}{between}{place[1]:.1f}"
