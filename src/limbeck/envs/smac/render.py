"""A battle to watch: films -> an animated GIF, or one self-contained HTML page with a time slider.

A film is a battle and its snapshots, the first before the first step. Several, by name, are shown side by side:

    film = Film(env, [env.snapshot(state) for state in states])
    render_html({"teacher": film, "student": another}, "battle.html")
"""

import html
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from limbeck.envs.smac.terrain import SIZE
from limbeck.envs.smac.world import Smac, Snapshot
from limbeck.errors import BadSetting

MARGIN = 2.5
"""cells around everything that ever happens"""
SMOOTH = 2
"""pictures are drawn this many times larger, then reduced"""
COLOURS = {
    "void": "#10141b",
    "floor": "#1c2330",
    "grid": "#242d3c",
    "ally": "#4ea1ff",
    "enemy": "#ff6a5a",
    "ink": "#0d1117",
    "text": "#e6edf3",
    "faint": "#8b98a9",
    "health": "#54d17a",
    "hurt": "#f0b429",
    "dying": "#ef4444",
    "shield": "#b692f6",
    "empty": "#3a4556",
    "sight": "#31507a",
}


class Film:
    """A battle and what happened in it.

    Args:
        env: the battle.
        snapshots: one per moment, or one whose arrays lead with the time axis, as a scan gives them.
    """

    def __init__(self, env: Smac, snapshots: Sequence[Snapshot] | Snapshot):
        moments = [snapshots] if isinstance(snapshots, Snapshot) else list(snapshots)
        if not moments:
            raise BadSetting("there is nothing to show: a film needs at least one snapshot")
        join = np.concatenate if isinstance(snapshots, Snapshot) else np.stack
        stacked: list[Any] = [join([np.asarray(each) for each in field]) for field in zip(*moments, strict=True)]
        self.env = env
        self.moments = Snapshot(*stacked)
        self.pos = np.stack([self.moments.x, self.moments.y], axis=-1).astype(float)

    def __len__(self) -> int:
        return len(self.moments.x)

    @property
    def n_allies(self) -> int:
        """How many units are agents; they come first."""
        return self.env.facts.n_allies

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """What each unit is."""
        return tuple(kind.name for kind in self.env.facts.kinds)

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Each unit's sign."""
        signs = signs_of(self.kinds)
        return tuple(signs[kind] for kind in self.kinds)

    @cached_property
    def window(self) -> tuple[float, float, float, float]:
        """The part of the map where anything happens: x0, y0, x1, y1."""
        low = np.maximum(np.floor(self.pos.min((0, 1)) - MARGIN), 0)
        high = np.minimum(np.ceil(self.pos.max((0, 1)) + MARGIN), SIZE)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def shots(self, t: int) -> list[tuple[int, int]]:
        """(attacker, target) of the weapons that went off on the way to moment t."""
        return [(unit, int(target)) for unit, target in enumerate(self.moments.target[t]) if target >= 0]


Films = Film | Mapping[str, Film]


def signs_of(kinds: Sequence[str]) -> dict[str, str]:
    """A sign per kind: its first letter, or as many as it takes to tell the kinds apart."""
    signs: dict[str, str] = {}
    for kind in dict.fromkeys(kinds):
        candidates = (kind[:n].capitalize() for n in range(1, len(kind) + 1))
        signs[kind] = next(sign for sign in candidates if sign not in signs.values())
    return signs


def render_gif(films: Films, path: str | Path, title: str = "", width: int = 640, step_ms: int = 120, sight: bool = False) -> Path:
    """An animated GIF with one frame per snapshot; the last is held.

    Args:
        films: a battle, or battles by name.
        path: where to write.
        title: printed above; the map's name if empty.
        width: pixels of one battle.
        step_ms: how long a frame is shown.
        sight: whether circles show how far the allies see.
    """
    named = _named(films)
    panels = [Panel(name, film, width, sight) for name, film in named.items()]
    length = max(len(film) for film in named.values())
    frames = [_side_by_side([panel.draw(t) for panel in panels], title or _map_name(named)) for t in range(length)]
    palette = _palette()
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [step_ms] * (length - 1) + [2000]
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=False)
    return Path(path)


def render_html(films: Films, path: str | Path, title: str = "") -> Path:
    """One page that needs nothing else: the data inline, drawn by its own script, with play, step and a time slider."""
    named = _named(films)
    data = json.dumps([_as_data(name, film) for name, film in named.items()], separators=(",", ":"))
    page = Path(__file__).with_name("battle.html").read_text(encoding="utf-8")
    page = page.replace("__TITLE__", html.escape(title or _map_name(named)))
    page = page.replace("__COLOURS__", json.dumps(COLOURS)).replace("__DATA__", data.replace("</", "<\\/"))
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


class Panel:
    """Draws the snapshots of one battle, each as a picture of the same size."""

    def __init__(self, name: str, film: Film, width: int, sight: bool):
        self.name, self.film, self.sight = name, film, sight
        self.x0, self.y0, self.x1, self.y1 = film.window
        self.scale = SMOOTH * width / (self.x1 - self.x0)
        self.size = SMOOTH * width, round(self.scale * (self.y1 - self.y0))
        self.background = self._background()

    def draw(self, t: int) -> Image.Image:
        """The picture of moment t; of the last one when the battle is over."""
        t = min(t, len(self.film) - 1)
        alive, pos = self.film.moments.alive[t], self.film.pos[t]
        picture = self.background.copy()
        draw = ImageDraw.Draw(picture)
        if self.sight:
            self._draw_sight(draw, t)
        for unit in np.flatnonzero(~alive):
            self._draw_cross(draw, pos[unit], self._colour(unit))
        for unit, target in self.film.shots(t):
            draw.line([*self._at(pos[unit]), *self._at(pos[target])], fill=self._colour(unit), width=round(0.09 * self.scale))
        for unit in np.flatnonzero(alive):
            self._draw_body(draw, t, int(unit))
        for unit in np.flatnonzero(alive):  # above all bodies: in a melee they overlap
            self._draw_bars(draw, t, int(unit))
        n = self.film.n_allies
        return _captioned(picture.reduce(SMOOTH), self.name, f"{alive[:n].sum()} : {alive[n:].sum()}", f"step {t}")

    def _colour(self, unit: int | np.integer) -> str:
        return COLOURS["ally" if unit < self.film.n_allies else "enemy"]

    def _at(self, place: np.ndarray) -> tuple[float, float]:
        """Map -> pixels; north is up."""
        return (float(place[0]) - self.x0) * self.scale, (self.y1 - float(place[1])) * self.scale

    def _background(self) -> Image.Image:
        picture = Image.new("RGB", self.size, COLOURS["void"])
        draw = ImageDraw.Draw(picture)
        for x0, y0, x1, y1 in self.film.env.map.walkable:
            left, top = self._at(np.array([x0, y1]))
            right, bottom = self._at(np.array([x1, y0]))
            draw.rectangle([left, top, right, bottom], fill=COLOURS["floor"])
            for x in range(x0, x1 + 1, 2):
                at = self._at(np.array([x, y0]))[0]
                draw.line([at, top, at, bottom], fill=COLOURS["grid"], width=SMOOTH)
            for y in range(y0, y1 + 1, 2):
                at = self._at(np.array([x0, y]))[1]
                draw.line([left, at, right, at], fill=COLOURS["grid"], width=SMOOTH)
        return picture

    def _draw_sight(self, draw: ImageDraw.ImageDraw, t: int) -> None:
        radius = self.film.env.settings.sight_range * self.scale
        for unit in np.flatnonzero(self.film.moments.alive[t, : self.film.n_allies]):
            draw.circle(self._at(self.film.pos[t, unit]), radius, outline=COLOURS["sight"], width=SMOOTH)

    def _draw_cross(self, draw: ImageDraw.ImageDraw, place: np.ndarray, colour: str) -> None:
        (x, y), arm = self._at(place), 0.25 * self.scale
        faded = _mix(colour, COLOURS["floor"], 0.45)
        for turn in (-1, 1):
            draw.line([x - arm, y - turn * arm, x + arm, y + turn * arm], fill=faded, width=round(0.1 * self.scale))

    def _radius(self, unit: int) -> float:
        return self.film.env.facts.kinds[unit].radius * self.scale

    def _draw_body(self, draw: ImageDraw.ImageDraw, t: int, unit: int) -> None:
        at, radius = self._at(self.film.pos[t, unit]), self._radius(unit)
        draw.circle(at, radius, fill=self._colour(unit), outline=COLOURS["ink"], width=SMOOTH)
        font = ImageFont.load_default(round(1.15 * radius))
        draw.text(at, self.film.letters[unit], fill=COLOURS["ink"], font=font, anchor="mm")

    def _draw_bars(self, draw: ImageDraw.ImageDraw, t: int, unit: int) -> None:
        now, (x, y), radius = self.film.moments, self._at(self.film.pos[t, unit]), self._radius(unit)
        share = float(now.health[t, unit] / now.max_health[t, unit])
        self._draw_bar(draw, x, y - radius - 0.2 * self.scale, radius, share, _health_colour(share))
        if now.max_shield[t, unit]:
            share = float(now.shield[t, unit] / now.max_shield[t, unit])
            self._draw_bar(draw, x, y - radius - 0.38 * self.scale, radius, share, COLOURS["shield"])

    def _draw_bar(self, draw: ImageDraw.ImageDraw, x: float, y: float, half: float, share: float, colour: str) -> None:
        line = SMOOTH / 2
        bottom = y + 0.12 * self.scale
        draw.rectangle([x - half - line, y - line, x + half + line, bottom + line], fill=COLOURS["ink"])
        draw.rectangle([x - half, y, x + half, bottom], fill=COLOURS["empty"])
        if share > 0:
            draw.rectangle([x - half, y, x - half + 2 * half * min(share, 1.0), bottom], fill=colour)


def _mix(colour: str, other: str, share: float) -> tuple[int, ...]:
    """A colour with a share of another."""
    pairs = zip(ImageColor.getrgb(colour), ImageColor.getrgb(other), strict=True)
    return tuple(round(a * (1 - share) + b * share) for a, b in pairs)


def _palette() -> Image.Image:
    """The colours of all pictures and what smoothing makes of them at their edges: one palette, so that nothing flickers."""
    mixed = {
        _mix(colour, ground, share)
        for colour in COLOURS.values()
        for ground in (COLOURS["floor"], COLOURS["ink"])
        for share in (0, 0.2, 0.4, 0.6, 0.8)
    }
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in sorted(mixed) for channel in colour])
    return image


def _health_colour(share: float) -> str:
    return COLOURS["health" if share > 0.6 else "hurt" if share > 0.3 else "dying"]


def _captioned(picture: Image.Image, name: str, tally: str, step: str) -> Image.Image:
    """The picture with a line of text below it."""
    high = 26
    whole = Image.new("RGB", (picture.width, picture.height + high), COLOURS["void"])
    whole.paste(picture, (0, 0))
    draw, font, y = ImageDraw.Draw(whole), ImageFont.load_default(14), picture.height + high / 2
    draw.text((10, y), name, fill=COLOURS["text"], font=font, anchor="lm")
    draw.text((picture.width / 2, y), tally, fill=COLOURS["faint"], font=font, anchor="mm")
    draw.text((picture.width - 10, y), step, fill=COLOURS["faint"], font=font, anchor="rm")
    return whole


def _side_by_side(pictures: list[Image.Image], title: str) -> Image.Image:
    gap, high = 8, 30
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, high + max(picture.height for picture in pictures)), COLOURS["void"])
    ImageDraw.Draw(whole).text((10, high / 2), title, fill=COLOURS["text"], font=ImageFont.load_default(16), anchor="lm")
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, high))
        x += picture.width + gap
    return whole


def _named(films: Films) -> dict[str, Film]:
    named = {"": films} if isinstance(films, Film) else dict(films)
    if not named:
        raise BadSetting("there is nothing to show: no film was given")
    return named


def _map_name(named: dict[str, Film]) -> str:
    return next(iter(named.values())).env.spec.name


def _as_data(name: str, film: Film) -> dict[str, Any]:
    """A film as numbers for the page; two decimals are a fifth of a pixel."""
    now = film.moments
    return {
        "name": name,
        "map": film.env.spec.name,
        "allies": film.n_allies,
        "letters": film.letters,
        "kinds": film.kinds,
        "radius": [kind.radius for kind in film.env.facts.kinds],
        "maxHealth": now.max_health[0].tolist(),
        "maxShield": now.max_shield[0].tolist(),
        "walkable": film.env.map.walkable,
        "sight": film.env.settings.sight_range,
        "window": film.window,
        "frames": [
            {
                "pos": film.pos[t].round(2).tolist(),
                "health": now.health[t].astype(float).round(1).tolist(),
                "shield": now.shield[t].astype(float).round(1).tolist(),
                "alive": now.alive[t].tolist(),
                "shots": film.shots(t),
            }
            for t in range(len(film))
        ],
    }
