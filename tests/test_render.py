"""Battles to watch: a frame per snapshot, and a page that needs nothing but itself."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from limbeck.envs import smac
from limbeck.envs.smac.render import Film, render_gif, render_html, signs_of
from limbeck.errors import BadSetting

ENV = smac.make("3m")
N, U = 3, 6


def film_of(length: int) -> Film:
    """Both armies walk towards each other; at the end the first ally shoots the last enemy dead."""
    snapshots = []
    for t in range(length):
        x = np.array([9.0 + t] * N + [23.0 - t] * N)
        health = np.array([45.0, 20, 10, 45, 45, 0 if t == length - 1 else 5])
        target = np.array([U - 1 if t == length - 1 else -1] + [-1] * (U - 1))
        full, team = np.full(U, 45.0), np.arange(U) // N
        y = 16.0 + 2 * (np.arange(U) % N)
        snapshots.append(smac.Snapshot(x, y, health, np.zeros(U), full, np.zeros(U), health > 0, target, team))
    return Film(ENV, snapshots)


def data_of(page: Path) -> list[dict]:
    found = re.search(r"^const FILMS = (.*);$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return json.loads(found[1])


def test_gif_has_a_frame_per_snapshot(tmp_path: Path):
    path = render_gif(film_of(5), tmp_path / "battle.gif", title="a battle", width=200)
    with Image.open(path) as image:
        assert image.n_frames == 5
        assert image.size[0] == 200
        colours = {pixel for _, pixel in image.convert("RGB").getcolors(1 << 20) or []}
    assert len(colours) > 8, "nothing was drawn"


def test_two_films_stand_side_by_side_and_the_shorter_one_waits(tmp_path: Path):
    path = render_gif({"teacher": film_of(3), "student": film_of(6)}, tmp_path / "battle.gif", width=160, sight=True)
    with Image.open(path) as image:
        assert (image.n_frames, image.size[0]) == (6, 328)


def test_page_holds_the_data_and_asks_for_nothing_else(tmp_path: Path):
    path = render_html({"a </script> b": film_of(4)}, tmp_path / "battle.html", title="a < b")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//cdn|src=|href=|@import|url\(|fetch\(|__[A-Z]+__", text)
    assert text.count("</script>") == 1 and "<h1>a &lt; b</h1>" in text
    (film,) = data_of(path)
    assert film["name"] == "a </script> b"
    assert film["letters"] == ["M"] * U and film["allies"] == N
    assert film["frames"][1]["pos"][0] == [10.0, 16.0]
    assert [frame["shots"] for frame in film["frames"]] == [[], [], [], [[0, U - 1]]]
    assert film["frames"][-1]["alive"] == [True] * (U - 1) + [False]


def test_a_film_comes_from_a_scan_as_well():
    state = ENV.reset(jax.random.key(0))

    def step(state, key):
        state, _ = ENV.step(state, jnp.array([4, 4, 1]), key)
        return state, ENV.snapshot(state)

    _, moments = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))(state, jax.random.split(jax.random.key(1), 6))
    film = Film(ENV, moments)
    assert len(film) == 6
    assert (np.diff(film.pos[:, 0, 0]) > 0).all(), "the first marine was sent east"
    np.testing.assert_allclose(np.diff(film.pos[:, 2], axis=0), 0, atol=1e-6)
    x0, y0, x1, y1 = film.window
    assert x0 <= film.pos[..., 0].min() and film.pos[..., 0].max() <= x1 <= 32 and y0 < y1


def test_signs_tell_kinds_apart():
    kinds = ("marine", "marauder", "marine", "zealot", "zergling", "stalker")
    assert signs_of(kinds) == {"marine": "M", "marauder": "Ma", "zealot": "Z", "zergling": "Ze", "stalker": "S"}


def test_nothing_to_show(tmp_path: Path):
    with pytest.raises(BadSetting, match="at least one snapshot"):
        Film(ENV, [])
    with pytest.raises(BadSetting, match="no film"):
        render_html({}, tmp_path / "battle.html")
    assert not (tmp_path / "battle.html").exists()
