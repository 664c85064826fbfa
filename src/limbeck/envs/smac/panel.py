"""A battle as a picture per moment: the field with everything on it, who plays above, and what is left of both sides below."""

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from limbeck.envs.smac.film import Film, Shot, Window
from limbeck.envs.smac.style import COLOURS, bar_colour, font, shape_of, sign_of
from limbeck.envs.smac.terrain import Rectangle
from limbeck.envs.smac.units import ENERGY_MAX

SMOOTH = 2
"""the field is drawn this many times larger, then reduced"""
HEAD, FOOT = 46, 30
"""pixels above and below the field"""
CROWD = 8
"""so many circles of sight are drawn fainter"""
TINT = 44
"""of 255: how much the ground is coloured where an ally sees"""
SMALLEST_BODY = 7.5
SMALLEST_SIGN = 7.0
"""pixels: bodies are drawn no smaller, letters left out below"""

Place = tuple[float, float]


class Panel:
    """Draws the moments of one battle, each as a picture of the same size.

    Args:
        name: who plays.
        film: what happened.
        window: the part of the map to show.
        width: pixels.
        sight: whether to show how far the allies see.
    """

    def __init__(self, name: str, film: Film, window: Window, width: int, sight: bool):
        self.name, self.film, self.width, self.sight = name, film, width, sight
        self.x0, self.y0, self.x1, self.y1 = window
        self.scale = SMOOTH * width / (self.x1 - self.x0)
        self.size = SMOOTH * width, SMOOTH * round(width * (self.y1 - self.y0) / (self.x1 - self.x0))
        self.ground = self._ground()
        self.small = font(12), font(12, bold=True)
        self.large = font(15, bold=True)

    @property
    def height(self) -> int:
        """Pixels."""
        return HEAD + self.size[1] // SMOOTH + FOOT

    def draw(self, t: int) -> Image.Image:
        """The picture of moment t; of the last one when the battle is over."""
        last = len(self.film) - 1
        t = min(t, last)
        whole = Image.new("RGB", (self.width, self.height), COLOURS["paper"])
        whole.paste(self._field(t).reduce(SMOOTH), (0, HEAD))
        draw = ImageDraw.Draw(whole)
        draw.rectangle([0, HEAD, self.width - 1, self.height - FOOT - 1], outline=COLOURS["edge"])
        self._write_head(draw, t)
        self._write_foot(draw, t)
        if t == last and self.film.outcome:
            self._write_outcome(draw)
        return whole

    # -- the field ---------------------------------------------------------------------------------------------------------

    def _field(self, t: int) -> Image.Image:
        film, now = self.film, self.film.moments
        picture = self._with_sight(t) if self.sight else self.ground.copy()
        draw = ImageDraw.Draw(picture)
        for unit in np.flatnonzero(~now.alive[t]):
            self._draw_fallen(draw, t, int(unit))
        for unit in film.blasts(t):
            at, radius = self._at(film.pos[t, unit]), film.facts.kinds[unit].blast * self.scale
            draw.circle(at, radius, outline=self._colour(unit), width=2 * SMOOTH)
        for unit in np.flatnonzero(now.alive[t]):
            self._draw_body(draw, t, int(unit))
        for shot in film.shots(t):
            self._draw_shot(draw, t, shot)
        for unit in np.flatnonzero(now.alive[t]):  # above all bodies and shots: in a melee they overlap
            self._draw_bars(draw, t, int(unit))
        return picture

    def _colour(self, unit: int) -> str:
        return COLOURS["ally" if unit < self.film.n_allies else "enemy"]

    def _at(self, place: np.ndarray) -> Place:
        """Map -> pixels; north is up."""
        return (float(place[0]) - self.x0) * self.scale, (self.y1 - float(place[1])) * self.scale

    def _box(self, rectangle: Rectangle) -> list[float]:
        x0, y0, x1, y1 = rectangle
        left, top = self._at(np.array([x0, y1]))
        right, bottom = self._at(np.array([x1, y0]))
        return [left, top, right, bottom]

    def _ground(self) -> Image.Image:
        """Walls are hatched, cliffs hatched the other way; what may be walked on shows its cells."""
        scenery = self.film.scenery
        picture = Image.new("RGB", self.size, COLOURS["wall"])
        draw = ImageDraw.Draw(picture)
        _hatch(draw, [0, 0, *self.size], COLOURS["hatch"], 1)
        for rectangles, colour in ((scenery.floor, "floor"), (scenery.passages, "passage"), (scenery.cliffs, "cliff")):
            for each in rectangles:
                box = self._box(each)
                draw.rectangle(box, fill=COLOURS[colour])
                if colour == "cliff":
                    part = Image.new("RGB", (round(box[2] - box[0]), round(box[3] - box[1])), COLOURS["cliff"])
                    _hatch(ImageDraw.Draw(part), [0, 0, *part.size], COLOURS["crag"], -1)
                    picture.paste(part, (round(box[0]), round(box[1])))
                else:
                    self._draw_cells(draw, each)
        for x0, y0, x1, y1 in scenery.edges:
            draw.line([*self._at(np.array([x0, y0])), *self._at(np.array([x1, y1]))], fill=COLOURS["edge"], width=2 * SMOOTH)
        return picture

    def _draw_cells(self, draw: ImageDraw.ImageDraw, rectangle: Rectangle) -> None:
        x0, y0, x1, y1 = rectangle
        left, top, right, bottom = self._box(rectangle)
        for x in range(x0, x1 + 1):
            at = self._at(np.array([x, y0]))[0]
            draw.line([at, top, at, bottom], fill=COLOURS["grid"], width=SMOOTH)
        for y in range(y0, y1 + 1):
            at = self._at(np.array([x0, y]))[1]
            draw.line([left, at, right, at], fill=COLOURS["grid"], width=SMOOTH)

    def _with_sight(self, t: int) -> Image.Image:
        """The ground, tinted where an ally sees."""
        seen = Image.new("L", self.size, 0)
        draw = ImageDraw.Draw(seen)
        alive = np.flatnonzero(self.film.moments.alive[t, : self.film.n_allies])
        places = [(self._at(self.film.pos[t, unit]), float(self.film.sight[unit]) * self.scale) for unit in alive]
        line = mix(COLOURS["ally"], COLOURS["floor"], 0.7 if len(places) > CROWD else 0.5)
        for place, radius in places:
            draw.circle(place, radius, fill=TINT)
        picture = Image.composite(Image.new("RGB", self.size, COLOURS["shield"]), self.ground, seen)
        draw = ImageDraw.Draw(picture)
        for place, radius in places:
            draw.circle(place, radius, outline=line, width=SMOOTH)
        return picture

    def _radius(self, unit: int) -> float:
        return max(self.film.facts.kinds[unit].radius * self.scale, SMALLEST_BODY * SMOOTH)

    def _draw_fallen(self, draw: ImageDraw.ImageDraw, t: int, unit: int) -> None:
        (x, y), arm = self._at(self.film.pos[t, unit]), 0.5 * self._radius(unit)
        faded = mix(self._colour(unit), COLOURS["floor"], 0.45)
        for turn in (-1, 1):
            draw.line([x - arm, y - turn * arm, x + arm, y + turn * arm], fill=faded, width=round(0.3 * arm) + SMOOTH)

    def _draw_shot(self, draw: ImageDraw.ImageDraw, t: int, shot: Shot) -> None:
        """From the edge of one body to that of the other, as far as there is room between them."""
        ends = np.array([self._at(self.film.pos[t, unit]) for unit in (shot.unit, shot.target)])
        long = max(float(np.linalg.norm(ends[1] - ends[0])), 1.0)
        ahead = (ends[1] - ends[0]) / long
        start = ends[0] + ahead * min(self._radius(shot.unit), 0.3 * long)
        x, y = end = ends[1] - ahead * min(0.8 * self._radius(shot.target), 0.3 * long)
        colour = COLOURS["heal"] if shot.heals else self._colour(shot.unit)
        wide, arm = (3 if shot.heals else 2) * SMOOTH, max(5.5 * SMOOTH, 0.4 * self._radius(shot.target))
        draw.line([*start, *end], fill=mix(colour, COLOURS["paper"], 0.25), width=wide)
        if shot.heals:
            draw.line([x - arm, y, x + arm, y], fill=colour, width=wide)
            draw.line([x, y - arm, x, y + arm], fill=colour, width=wide)
            return
        spikes = [(arm if i % 2 == 0 else 0.4 * arm, np.pi * (i + 0.5) / 6) for i in range(12)]
        burst = [(x + r * np.cos(angle), y + r * np.sin(angle)) for r, angle in spikes]
        draw.polygon(burst, fill=COLOURS["paper"], outline=colour, width=SMOOTH)

    def _draw_body(self, draw: ImageDraw.ImageDraw, t: int, unit: int) -> None:
        (x, y), radius, kind = self._at(self.film.pos[t, unit]), self._radius(unit), self.film.kinds[unit]
        outline = [(x + radius * i, y - radius * j) for i, j in shape_of(kind)]
        draw.polygon(outline, fill=self._colour(unit), outline=COLOURS["paper"], width=SMOOTH)
        if radius >= SMALLEST_SIGN * SMOOTH:
            sign = font(0.95 * radius, bold=True)
            draw.text((x, y - 0.16 * radius), sign_of(kind), fill=COLOURS["paper"], font=sign, anchor="mm")

    def _draw_bars(self, draw: ImageDraw.ImageDraw, t: int, unit: int) -> None:
        now, (x, y), radius = self.film.moments, self._at(self.film.pos[t, unit]), self._radius(unit)
        health = float(now.health[t, unit] / now.max_health[t, unit])
        bars = [(health, bar_colour(health))]
        if now.max_shield[t, unit]:
            bars.append((float(now.shield[t, unit] / now.max_shield[t, unit]), COLOURS["shield"]))
        if self.film.facts.heals[unit]:
            bars.append((float(now.energy[t, unit] / ENERGY_MAX), COLOURS["energy"]))
        high = max(0.26 * radius, 3 * SMOOTH)
        for place, (share, colour) in enumerate(bars):
            _draw_bar(draw, [x - 0.8 * radius, y + 0.75 * radius - place * high, x + 0.8 * radius, 0], high, share, colour)

    # -- what is written around it -----------------------------------------------------------------------------------------

    def _write_head(self, draw: ImageDraw.ImageDraw, t: int) -> None:
        plain, _ = self.small
        name, line = self.name or self.film.env.spec.name, HEAD / 2
        draw.text((0, line - 9 if self.film.note else line), name, fill=COLOURS["ink"], font=self.large, anchor="lm")
        draw.text((0, line + 11), _fitting(self.film.note, plain, self.width - 110), fill=COLOURS["faint"], font=plain, anchor="lm")
        returns = self.film.returns
        draw.text((self.width, line - 9 if returns is not None else line), f"step {t}", COLOURS["ink"], self.large, anchor="rm")
        if returns is not None:
            draw.text((self.width, line + 11), f"return {returns[t]:.1f}", COLOURS["faint"], plain, anchor="rm")

    def _write_foot(self, draw: ImageDraw.ImageDraw, t: int) -> None:
        """How many stand, and how much health and shield is left: of the allies from the left, of the enemies from the right."""
        _, bold = self.small
        y, half, high = self.height - FOOT / 2 + 2, self.width / 2 - 14, 8
        totals = self.film.n_allies, self.film.n_units - self.film.n_allies
        for side, (count, total, share) in enumerate(zip(self.film.standing(t), totals, self.film.strength(t), strict=True)):
            colour = COLOURS["enemy" if side else "ally"]
            text, room = f"{count}/{total}", 52
            start = 0 if side == 0 else self.width
            draw.text((start, y), text, fill=colour, font=bold, anchor="rm" if side else "lm")
            left, right = (room, half) if side == 0 else (self.width - half, self.width - room)
            draw.rectangle([left, y - high / 2, right, y + high / 2], fill=COLOURS["empty"])
            if share > 0:
                long = max((right - left) * share, 1)
                box = [left, right - (right - left) + long] if side == 0 else [right - long, right]
                draw.rectangle([box[0], y - high / 2, box[1], y + high / 2], fill=colour)

    def _write_outcome(self, draw: ImageDraw.ImageDraw) -> None:
        text = self.film.outcome
        half, y = self.large.getlength(text) / 2 + 16, HEAD + 26
        middle = self.width / 2
        draw.rounded_rectangle([middle - half, y - 15, middle + half, y + 15], 15, fill=COLOURS["ink"])
        draw.text((middle, y), text, fill=COLOURS["paper"], font=self.large, anchor="mm")


def _fitting(text: str, words: ImageFont.FreeTypeFont, room: float) -> str:
    """The text, or as much of its end as there is room for: paths differ there."""
    if words.getlength(text) <= room:
        return text
    return next((short for n in range(1, len(text)) if words.getlength(short := "…" + text[n:]) <= room), "")


def mix(colour: str, other: str, share: float) -> tuple[int, ...]:
    """A colour with a share of another."""
    pairs = zip(ImageColor.getrgb(colour), ImageColor.getrgb(other), strict=True)
    return tuple(round(a * (1 - share) + b * share) for a, b in pairs)


def _draw_bar(draw: ImageDraw.ImageDraw, box: list[float], high: float, share: float, colour: str) -> None:
    left, top, right, _ = box
    line = 0.5 * SMOOTH
    draw.rectangle([left - line, top - line, right + line, top + high + line], fill=COLOURS["paper"])
    draw.rectangle([left, top, right, top + high - SMOOTH], fill=COLOURS["empty"])
    if share > 0:
        draw.rectangle([left, top, left + max((right - left) * min(share, 1.0), SMOOTH), top + high - SMOOTH], fill=colour)


def _hatch(draw: ImageDraw.ImageDraw, box: list[float], colour: str, slope: int) -> None:
    left, top, right, bottom = box
    high, gap = bottom - top, 9 * SMOOTH
    for x in np.arange(left - high, right + high, gap):
        draw.line([x, bottom if slope > 0 else top, x + high, top if slope > 0 else bottom], fill=colour, width=SMOOTH)
