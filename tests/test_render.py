"""Battles to watch: a frame per snapshot, and a page that needs nothing but itself."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageColor

from limbeck.envs import smac
from limbeck.envs.smac.render import Film, Sheet, render_gif, render_html
from limbeck.envs.smac.scenery import outline, rectangles, scenery
from limbeck.envs.smac.style import COLOURS, SHAPES, SIGNS
from limbeck.envs.smac.terrain import cells
from limbeck.envs.smac.units import LIBERTY
from limbeck.errors import BadSetting

ENV = smac.make("3m")
N, U = 3, 6


def film_of(length: int, **said) -> Film:
    """Both armies walk towards each other; at the end the first ally shoots the last enemy dead."""
    snapshots = []
    for t in range(length):
        x = np.array([9.0 + t] * N + [23.0 - t] * N)
        health = np.array([45.0, 20, 10, 45, 45, 0 if t == length - 1 else 4.5])
        target = np.array([U - 1 if t == length - 1 else -1] + [-1] * (U - 1))
        full, none, team = np.full(U, 45.0), np.zeros(U), np.arange(U) // N
        y = 16.0 + 2 * (np.arange(U) % N)
        snapshots.append(smac.Snapshot(x, y, health, none, full, none, health > 0, target, team, none))
    return Film(ENV, snapshots, **said)


def data_of(page: Path) -> dict:
    found = re.search(r"^const DATA = (.*);$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return json.loads(found[1])


def played(name: str, steps: int) -> Film:
    """Everybody attacks the first enemy, or heals the first friend, and marches east until that is possible."""
    env = smac.make(name)

    def step(state, key):
        order = jnp.where(env.observe(state).avail_actions[:, 6], 6, 4)
        state, _ = env.step(state, order, key)
        return state, env.snapshot(state)

    keys = jax.random.split(jax.random.key(1), steps)
    return Film(env, jax.jit(lambda keys: jax.lax.scan(step, env.reset(jax.random.key(0)), keys)[1])(keys))


def colours_of(image: Image.Image) -> set:
    return {pixel for _, pixel in image.convert("RGB").getcolors(1 << 24) or []}


def has(image: Image.Image, name: str) -> bool:
    return ImageColor.getrgb(COLOURS[name]) in colours_of(image)


def test_gif_has_a_frame_per_snapshot(tmp_path: Path):
    path = render_gif(film_of(5), tmp_path / "battle.gif", title="a battle", width=200)
    with Image.open(path) as image:
        assert image.n_frames == 5
        assert image.size[0] == 236
        assert {ImageColor.getrgb(COLOURS[name]) for name in ("paper", "floor", "ally", "enemy", "health")} <= colours_of(image)


def test_two_films_stand_side_by_side_and_the_shorter_one_waits(tmp_path: Path):
    films = {"teacher": film_of(3, outcome="won", note="sees everything"), "student": film_of(6, rewards=[1.0] * 5)}
    path = render_gif(films, tmp_path / "battle.gif", width=160, sight=True)
    with Image.open(path) as image:
        assert (image.n_frames, image.size[0]) == (6, 378)


def test_how_it_ended_is_said_at_the_end_only():
    silent, sheet = Sheet(film_of(4), width=300), Sheet(film_of(4, outcome="won"), width=300)
    assert [sheet.draw(t) == silent.draw(t) for t in (2, 3)] == [True, False]


def test_attacks_deaths_and_sight_can_be_seen():
    before, after = (Sheet(film_of(4), width=300).panels[0]._field(t) for t in (2, 3))
    middle = (0, 0.9 * before.height, before.width, before.height)
    assert before.crop(middle) == after.crop(middle), "the ground stays"
    assert before != after
    seen = Sheet(film_of(4), width=300, sight=True).panels[0]._field(2)
    assert colours_of(seen) - colours_of(before)


def test_healers_show_their_energy_and_whom_they_heal():
    film = played("MMM", 14)
    healed = [t for t in range(len(film)) if any(shot.heals for shot in film.shots(t))]
    assert healed and film.moments.energy.any() and not film.moments.energy[:, :9].any()
    field = Sheet(film, width=400).panels[0]._field(healed[0])
    assert has(field, "energy") and has(field, "heal")


def test_an_explosion_is_seen_in_the_moment_of_death():
    film = played("so_many_baneling", 14)
    blasts = {unit for t in range(len(film)) for unit in film.blasts(t)}
    dead = set(np.flatnonzero(~film.moments.alive[-1] & film.moments.alive[0]))
    assert blasts and blasts == {unit for unit in dead if film.kinds[unit] == "baneling"}


@pytest.mark.parametrize(("name", "seen"), [("corridor", "passage"), ("2c_vs_64zg", "crag"), ("2s_vs_1sc", "hatch")])
def test_terrain_is_drawn(name: str, seen: str):
    env = smac.make(name)
    state = env.reset(jax.random.key(0))
    snapshots = [env.snapshot(state), env.snapshot(state)._replace(x=jnp.full(len(env.facts.kinds), 15.0))]
    field = Sheet(Film(env, snapshots), width=400).panels[0].ground
    assert has(field, seen) and has(field, "floor") and has(field, "edge")


@pytest.mark.parametrize("name", ["3m", "corridor", "2c_vs_64zg", "so_many_baneling"])
def test_rectangles_cover_the_ground_once(name: str):
    land, battle = scenery(smac.MAPS[name]), smac.MAPS[name]
    count = sum(cells([each]).astype(int) for each in (*land.floor, *land.passages, *land.cliffs))
    assert (count == (cells(battle.walkable) | cells(battle.passages) | cells(battle.cliffs))).all()
    assert (cells(land.floor) == cells(battle.walkable)).all()


def test_the_outline_runs_between_ground_and_wall():
    assert outline(cells([(0, 0, 32, 32)])) == []
    assert sorted(outline(cells([(4, 4, 6, 7)]))) == [(4, 4, 4, 7), (4, 4, 6, 4), (4, 7, 6, 7), (6, 4, 6, 7)]
    assert rectangles(cells([(4, 4, 6, 7), (6, 5, 8, 7)])) == [(4, 4, 6, 5), (4, 5, 8, 7)]


def test_page_holds_the_data_and_asks_for_nothing_else(tmp_path: Path):
    film = film_of(4, rewards=[0, 0, 2.5], outcome="won <b>", note="sees everything")
    path = render_html({"a </script> b": film}, tmp_path / "battle.html", title="a < b")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//cdn|src=|href=\"(?!data:,)|@import|url\(|fetch\(|__[A-Z]+__", text)
    assert text.count("</script>") == 1 and "<h1>a &lt; b</h1>" in text
    data = data_of(path)
    (film,) = data["films"]
    assert film["name"] == "a </script> b" and film["outcome"] == "won <b>"
    assert film["kinds"] == ["marine"] * U and film["allies"] == N and data["kinds"]["marine"]["sign"] == "M"
    assert film["x"][1][0] == 1000 and film["y"][1][0] == 1600, "hundredths of a cell"
    assert film["shots"] == [[], [], [], [[0, U - 1]]]
    assert film["health"][2][-1] == 5 and film["health"][3][-1] == 0, "whoever is alive has some"
    assert film["returns"] == [0, 0, 0, 2.5] and film["shield"] is None


def test_a_long_battle_of_many_makes_a_page_of_moderate_size(tmp_path: Path):
    env = smac.make("27m_vs_30m")
    first = env.snapshot(env.reset(jax.random.key(0)))
    random = np.random.default_rng(0)
    moved = [first._replace(x=first.x + random.normal(size=57), health=random.uniform(0, 45, 57)) for _ in range(250)]
    path = render_html({"teacher": Film(env, moved), "student": Film(env, moved)}, tmp_path / "battle.html")
    assert path.stat().st_size < 1_000_000


def test_a_film_comes_from_a_scan_as_well():
    film = played("3m", 6)
    assert len(film) == 6
    assert (np.diff(film.pos[:3, 0, 0]) > 0).all(), "the first marine was sent east"
    x0, y0, x1, y1 = film.window
    assert 0 <= x0 <= film.pos[..., 0].min() and film.pos[..., 0].max() <= x1 <= 32 and 0 <= y0 < y1 <= 32


def test_the_dead_lie_where_they_fell():
    film = film_of(5)
    x = film.moments.x[:, 0]
    alive = np.ones((5, U), bool)
    alive[2:, 0] = False
    dead = Film(ENV, smac.Snapshot(*film.moments)._replace(alive=alive))
    np.testing.assert_array_equal(dead.pos[:, 0, 0], x[[0, 1, 2, 2, 2]])
    assert dead.standing(4) == (2, 3) and (dead.strength(4) < 1).all()


def test_kinds_are_told_apart_by_shape_and_by_letter():
    assert SHAPES.keys() == SIGNS.keys() == LIBERTY.keys()
    assert len(set(SIGNS.values())) == len(set(SHAPES.values())) == len(LIBERTY)


def test_nothing_to_show(tmp_path: Path):
    with pytest.raises(BadSetting, match="at least one snapshot"):
        Film(ENV, [])
    with pytest.raises(BadSetting, match="no film"):
        render_html({}, tmp_path / "battle.html")
    assert not (tmp_path / "battle.html").exists()


def test_the_page_is_part_of_what_is_installed(tmp_path: Path):
    root = Path(__file__).parents[1]
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    ran = subprocess.run(build, cwd=root, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert "limbeck/envs/smac/battle.html" in wheel.namelist()
