"""The page of the maps, docs/maps.md, and its pictures: `python reproduce/map_pictures.py` writes all of it anew."""

import argparse
from collections import Counter
from pathlib import Path

from limbeck.envs import smac
from limbeck.envs.smac.atlas import map_svg
from limbeck.envs.smac.style import plain, sign_of

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = "assets/maps"
GROUPS = {
    "Marines": ("3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m"),
    "Mixed armies": ("MMM", "MMM2", "2s3z", "3s5z", "3s5z_vs_3s6z", "3s5z_vs_3s7z", "1c3s5z", "bane_vs_bane"),
    "Unlike armies": (
        *("3s_vs_3z", "3s_vs_4z", "3s_vs_5z", "3s_vs_8z", "6h_vs_8z", "2m_vs_1z", "2s_vs_1sc"),
        *("corridor", "so_many_baneling", "2c_vs_64zg"),
    ),
}
"""the maps whose armies are always the same; a map of one's own, or one with random armies, has no picture here"""
NAMES = tuple(name for names in GROUPS.values() for name in names)
INTRODUCTION = """# Maps

<!-- written by reproduce/map_pictures.py -->

The battles of `smac/...` before they begin, each with one of the 64 formations in which its armies may appear. Blue are the
agents, orange the opponent; black crosses are the points around which they are packed. The dashed arrow ends where the opponent is
ordered to attack-move; without one it waits, or hunts the agents. Squares are cells that may be walked on, hatched grey is wall,
hatched brown are cliffs that only colossi climb, yellowish squares are passages that bodies may cross though no order to move may
name them.

A battle of one's own is drawn by `limbeck.envs.smac.atlas.map_svg`; sizes, actions and observations are explained under
[Worlds](worlds.md). A click enlarges a picture. `python reproduce/map_pictures.py` draws this page.

{legend}
"""


def page() -> str:
    """The text of the page."""
    parts = [INTRODUCTION.format(legend=_legend())]
    for title, names in GROUPS.items():
        cards = "\n".join(_card(name) for name in names)
        parts.append(f'## {title}\n\n<div class="grid cards" markdown>\n\n{cards}\n</div>\n')
    return "\n".join(parts)


def pictures() -> dict[str, str]:
    """name -> SVG."""
    return {name: map_svg(smac.make(name)) for name in NAMES}


def _card(name: str) -> str:
    env = smac.make(name)
    spec, kinds = env.spec, env.facts.kinds
    sides = (kinds[: env.facts.n_allies], kinds[env.facts.n_allies :])
    armies = " against ".join(", ".join(_count(side).values()) for side in sides)
    sizes = f"{spec.n_actions} actions, obs {spec.obs_dim}, state {spec.state_dim}, limit {spec.episode_limit}"
    return f"-   **`{name}`**: {armies}<br>{sizes}\n\n    [![{name}]({PICTURES}/{name}.svg)]({PICTURES}/{name}.svg)\n"


def _count(side) -> dict[str, str]:
    return {kind: f"{number} {plain(kind, number)}" for kind, number in Counter(kind.name for kind in side).items()}


def _legend() -> str:
    kinds = dict.fromkeys(
        kind for name in NAMES for battle in [smac.MAPS[name]] for kind in battle.ally_kinds() + battle.enemy_kinds()
    )
    return "Letters: " + ", ".join(f"{sign_of(kind)} {plain(kind)}" for kind in kinds) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the page")
    out = parser.parse_args().out
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    for name, text in pictures().items():
        (out / PICTURES / f"{name}.svg").write_text(text, encoding="utf-8")
    (out / "maps.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
