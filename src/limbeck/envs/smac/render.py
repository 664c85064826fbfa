"""A battle to watch: films -> an animated GIF, or one self-contained HTML page with a time slider.

Several films, by name, are shown side by side:

    film = Film(env, [env.snapshot(state) for state in states])
    render_html({"teacher": film, "student": another}, "battle.html")
"""

import html
import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from limbeck.envs.smac.film import Film, Shot, drawn_as, joint_window
from limbeck.envs.smac.panel import TINT, Panel, mix
from limbeck.envs.smac.style import COLOURS, LOW, font, plain, shape_of, sign_of
from limbeck.errors import BadSetting

__all__ = ["Film", "Films", "Shot", "render_gif", "render_html"]

BORDER, GAP, TITLE, ROW = 18, 22, 36, 24
"""pixels around everything, between battles, of the title's line, of a line of the legend"""

NEARLY = 24
"""how little two colours of the palette may differ, over all channels"""

Films = Film | Mapping[str, Film]


def render_gif(films: Films, path: str | Path, title: str = "", width: int = 640, step_ms: int = 160, sight: bool = False) -> Path:
    """An animated GIF with one frame per snapshot; the last is held.

    Args:
        films: a battle, or battles by name.
        path: where to write.
        title: printed above; the map's name if empty.
        width: pixels of one battle.
        step_ms: how long a frame is shown.
        sight: whether it is shown how far the allies see.
    """
    sheet = Sheet(films, title, width, sight)
    palette = _palette()
    indexed = [sheet.draw(t).quantize(palette=palette, dither=Image.Dither.NONE) for t in range(len(sheet))]
    durations = [step_ms] * (len(sheet) - 1) + [3000]
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True)
    return Path(path)


def render_html(films: Films, path: str | Path, title: str = "") -> Path:
    """One page that needs nothing else: the data inline, drawn by its own script, with play, step and a time slider."""
    named = _named(films)
    data = {
        "films": [{"name": name or film.env.spec.name, **film.data()} for name, film in named.items()],
        "window": joint_window(named.values()),
        "kinds": {
            kind: looks | {"name": plain(kind)}
            for kind, looks in drawn_as(kind for film in named.values() for kind in film.kinds).items()
        },
        "low": LOW,
    }
    page = Path(__file__).with_name("battle.html").read_text(encoding="utf-8")
    page = page.replace("__TITLE__", html.escape(title or _map_name(named))).replace("__COLOURS__", json.dumps(COLOURS))
    page = page.replace("__DATA__", json.dumps(data, separators=(",", ":")).replace("</", "<\\/"))
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


class Sheet:
    """All battles of a picture, with a title and a legend.

    Args:
        films, title, width, sight: see `render_gif`.
    """

    def __init__(self, films: Films, title: str = "", width: int = 640, sight: bool = False):
        self.named = _named(films)
        window = joint_window(self.named.values())
        self.panels = [Panel(name, film, window, width, sight) for name, film in self.named.items()]
        self.title = title or _map_name(self.named)
        self.across = sum(panel.width for panel in self.panels) + GAP * (len(self.panels) - 1)
        self.legend = self._legend()

    def __len__(self) -> int:
        return max(len(film) for film in self.named.values())

    def draw(self, t: int) -> Image.Image:
        """The picture of moment t."""
        high = max(panel.height for panel in self.panels)
        whole = Image.new("RGB", (self.across + 2 * BORDER, TITLE + high + self.legend.height + 2 * BORDER), COLOURS["paper"])
        ImageDraw.Draw(whole).text((BORDER, BORDER + 8), self.title, fill=COLOURS["ink"], font=font(17), anchor="lm")
        x = BORDER
        for panel in self.panels:
            whole.paste(panel.draw(t), (x, BORDER + TITLE - 10))
            x += panel.width + GAP
        whole.paste(self.legend, (BORDER, BORDER + TITLE + high))
        return whole

    def _legend(self) -> Image.Image:
        """What the shapes and colours stand for: of what there is to see, in as many lines as it takes."""
        words, lines = font(12), [[]]
        for item in self._entries():
            long = 22 + words.getlength(item[1]) + 18
            if lines[-1] and sum(each[2] for each in lines[-1]) + long > self.across:
                lines.append([])
            lines[-1].append((*item, long))
        picture = Image.new("RGB", (2 * self.across, 2 * ROW * len(lines)), COLOURS["paper"])
        draw = ImageDraw.Draw(picture)
        for i, line in enumerate(lines):
            x, y = 0.0, (i + 0.5) * ROW
            for mark, _, long in line:
                _draw_mark(draw, mark, 2 * (x + 9), 2 * y)
                x += long
        picture = picture.reduce(2)
        draw = ImageDraw.Draw(picture)
        for i, line in enumerate(lines):
            x = 0.0
            for _, text, long in line:
                draw.text((x + 22, (i + 0.5) * ROW), text, fill=COLOURS["faint"], font=words, anchor="lm")
                x += long
        return picture

    def _entries(self) -> list[tuple[str, str]]:
        """(mark, text)"""
        films = list(self.named.values())
        kinds = dict.fromkeys(kind for film in films for kind in film.kinds)
        entries = [("ally", "agents"), ("enemy", "opponent"), *((kind, plain(kind)) for kind in kinds), ("bar health", "health")]
        if any(film.moments.max_shield.any() for film in films):
            entries.append(("bar shield", "shield"))
        if any(film.facts.heals.any() for film in films):
            entries += [("bar energy", "energy"), ("line heal", "heals")]
        return [*entries, ("line ink", "attacks"), ("cross", "fallen")]


def _draw_mark(draw: ImageDraw.ImageDraw, mark: str, x: float, y: float) -> None:
    what, _, colour = mark.partition(" ")
    if what in ("ally", "enemy"):
        draw.rounded_rectangle([x - 14, y - 14, x + 14, y + 14], 5, fill=COLOURS[what])
    elif what == "bar":
        draw.rectangle([x - 18, y - 5, x + 18, y + 5], fill=COLOURS[colour])
    elif what == "line":
        draw.line([x - 18, y, x + 18, y], fill=COLOURS[colour], width=4)
    elif what == "cross":
        for turn in (-1, 1):
            draw.line([x - 10, y - turn * 10, x + 10, y + turn * 10], fill=COLOURS["faint"], width=6)
    else:
        draw.polygon([(x + 15 * i, y - 15 * j) for i, j in shape_of(what)], fill=COLOURS["faint"])
        draw.text((x, y), sign_of(what), fill=COLOURS["paper"], font=font(16, bold=True), anchor="mm")


def _palette() -> Image.Image:
    """One palette for all pictures, so that nothing flickers: their colours, and what smoothing makes of them at their edges.
    What is nearly the same as another is left out, or surfaces would take the wrong one of the two.
    """
    tinted = mix(COLOURS["floor"], COLOURS["shield"], TINT / 255)
    grounds = [COLOURS["paper"], COLOURS["floor"], "#{:02x}{:02x}{:02x}".format(*tinted)]
    kept = dict.fromkeys(mix(colour, colour, 0) for colour in (*COLOURS.values(), *grounds))
    for share, ground, colour in product((0.3, 0.6, 0.85), grounds, COLOURS.values()):
        mixed = mix(colour, ground, share)
        if min(sum(abs(a - b) for a, b in zip(mixed, other, strict=True)) for other in kept) > NEARLY:
            kept[mixed] = None
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in kept for channel in colour])
    return image


def _named(films: Films) -> dict[str, Film]:
    named = {"": films} if isinstance(films, Film) else dict(films)
    if not named:
        raise BadSetting("there is nothing to show: no film was given")
    return named


def _map_name(named: dict[str, Any]) -> str:
    return next(iter(named.values())).env.spec.name
