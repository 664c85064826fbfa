"""The page of the maps shows all of them, as they are."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from reproduction import script

from limbeck.envs import smac

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
drawn = script("map_pictures")


def test_the_page_lists_every_fixed_map():
    listed = re.findall(r"\*\*`(\w+)`\*\*", (DOCS / "maps.md").read_text(encoding="utf-8"))
    assert len(listed) == len(set(listed)) == 25 and set(listed) == set(drawn.NAMES) <= set(smac.MAPS)


def test_the_page_is_what_the_command_writes():
    assert (DOCS / "maps.md").read_text(encoding="utf-8") == drawn.page(), "run reproduce/map_pictures.py"


@pytest.mark.parametrize("name", ["3m", "MMM2", "2m_vs_1z", "corridor", "2c_vs_64zg"])
def test_a_picture_shows_everybody(name: str):
    env = smac.make(name)
    found = ElementTree.fromstring(drawn.map_svg(env))
    svg = "{http://www.w3.org/2000/svg}"
    assert len(list(found.iter(f"{svg}polygon"))) == env.facts.n_units
    fills = [each.get("fill") for each in found.iter(f"{svg}rect")]
    assert ("url(#cliff)" in fills) == bool(env.map.cliffs) and "url(#wall)" in fills


def test_pictures_are_there_and_small():
    sizes = {path.stem: path.stat().st_size for path in (DOCS / drawn.PICTURES).glob("*.svg")}
    assert sizes.keys() == set(drawn.NAMES) and sum(sizes.values()) < 1_500_000
