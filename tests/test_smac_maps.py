"""Battles of one's own, from Python and from a file; the ground under them."""

import json

import jax
import numpy as np
import pytest

from limbeck.envs import registry, smac
from limbeck.envs.check import check_env
from limbeck.envs.smac import MAPS, BattleMap, Group, Smac, SmacSettings, add_map, load_map, terrain
from limbeck.errors import BadSetting, LimbeckError

DUEL = {"allies": (("marine", 2),), "enemies": (("zealot", 1),), "limit": 40}


@pytest.fixture
def no_trace():
    before = dict(MAPS)
    yield
    MAPS.clear()
    MAPS.update(before)


def test_a_map_in_a_few_lines_of_python(no_trace):
    add_map("2m1M_vs_3zg", BattleMap((("marine", 2), ("medivac", 1)), (("zergling", 2), ("baneling", 1, (20, 20))), limit=30))
    env = registry.make("smac/2m1M_vs_3zg")
    assert env.spec.n_actions == 9 and "smac/2m1M_vs_3zg" in registry.names()
    assert env.map.enemies == (Group("zergling", 2), Group("baneling", 1, (20.0, 20.0)))
    check_env(env, worlds=2)
    with pytest.raises(BadSetting, match="already"):
        add_map("2m1M_vs_3zg", BattleMap(**DUEL))
    with pytest.raises(BadSetting, match="no name for a map"):
        add_map("a map", BattleMap(**DUEL))


def test_a_map_from_a_file(tmp_path, no_trace):
    data = {
        "name": "gate",
        "allies": [["stalker", 1, [4, 4]], ["stalker", 1, [4, 8]]],
        "enemies": [["zealot", 3]],
        "limit": 50,
        "enemy_point": [28, 6],
        "attack_point": [[4, 4], [4, 8]],
        "walkable": [[0, 0, 12, 12], [12, 4, 20, 8], [20, 0, 32, 12]],
        "enemy_shields": False,
    }
    path = tmp_path / "any.json"
    path.write_text(json.dumps(data))
    name, battle = load_map(path)
    add_map(name, battle)
    env = smac.make("gate")
    assert (env.spec.n_agents, env.spec.obs_dim) == (2, 4 + 3 * 5 + 6 + 2)
    state = env.reset(jax.random.key(0))
    x, y = np.array(state.bodies.pos)[:, :2]
    np.testing.assert_allclose([*x, *np.sort(y)], [4, 4, 4, 8], atol=0.8)  # agents are numbered by x, wherever they were listed
    del data["name"]
    path.write_text(json.dumps(data))
    assert load_map(path)[0] == "any"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allies": (("marin", 2),)}, "unknown unit 'marin'; did you mean 'marine'"),
        ({"allies": ()}, "allies has 0 units; it must be 1 to 64"),
        ({"enemies": (("zergling", 65),)}, "enemies has 65 units"),
        ({"enemies": (("zergling", 0),)}, "enemies has 0 zerglings"),
        ({"enemies": ("zergling",)}, "must be a list of"),
        ({"allies": (("medivac", 1),)}, "nobody who can fight"),
        ({"allies": (("marine", 1), ("zealot", 1), ("marine", 1))}, "must follow each other"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": 2.5}, "whole number of steps"),
        ({"ally_point": (40, 3)}, "outside the map"),
        ({"ally_point": 3}, "must be a point"),
        ({"ally_point": (9, 3)}, "not on walkable ground"),
        ({"attack_point": (9, float("nan"))}, "outside the map"),
        ({"walkable": ()}, "walkable is empty"),
        ({"walkable": ((5, 5, 4, 9),)}, "0 <= x0 < x1 <= 32"),
        ({"walkable": ((0, 8, 12, 24), (20, 8, 32, 24))}, "in several pieces"),
        ({"enemy_type_order": ("zealot", "stalker")}, "must name each kind of enemy once"),
    ],
)
def test_impossible_maps_are_refused_in_one_line(change, message):
    with pytest.raises(LimbeckError, match=message) as error:
        BattleMap(**{**DUEL, **change})
    assert "\n" not in str(error.value)


def test_no_room(no_trace):
    crowd = BattleMap((("marine", 2),), (("colossus", 60),), 40, walkable=((6, 13, 12, 19), (12, 15, 26, 17)))
    with pytest.raises(BadSetting, match=r"walkable room for .* units around .*, not for 60"):
        Smac("crowd", SmacSettings(), crowd)
    narrow = BattleMap((("marine", 2),), (("colossus", 1),), 40, walkable=((0, 16, 32, 17),))
    with pytest.raises(BadSetting, match="nowhere wide enough for a colossus"):
        Smac("narrow", SmacSettings(), narrow)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no readable JSON file"),
        ("[1]", "must hold an object"),
        ('{"allies": [["marine", 1]], "limit": 9}', "says nothing about `enemies`"),
        ('{"allies": [["marine", 1]], "enemies": [["zealot", 1]], "limit": 9, "walls": []}', "unknown field 'walls'"),
        ('{"allies": [["marin", 1]], "enemies": [["zealot", 1]], "limit": 9}', "unknown unit 'marin'"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadSetting, match=message) as error:
        load_map(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(BadSetting, match="no readable JSON file"):
        load_map(tmp_path / "none.json")


def test_maximal_rectangles_are_where_a_square_fits():
    random = np.random.default_rng(0)
    for _ in range(5):
        ground = np.kron(random.random((8, 8)) < 0.7, np.ones((4, 4), bool))
        found = terrain.maximal(ground)
        for side in (1, 3, 5, 9):
            fits = {(x, y) for x in range(33 - side) for y in range(33 - side) if ground[x : x + side, y : y + side].all()}
            by_rectangles = {(x, y) for x0, y0, x1, y1 in found for x in range(x0, x1 - side + 1) for y in range(y0, y1 - side + 1)}
            assert fits == by_rectangles


def test_ways_around_walls_arrive():
    ground = terrain.cells(((0, 0, 32, 4), (0, 4, 4, 28), (0, 28, 32, 32), (28, 4, 32, 28), (12, 4, 16, 20)))
    assert terrain.has_detours(ground) and not terrain.has_detours(terrain.cells(((0, 0, 9, 4), (0, 0, 4, 9))))
    table = terrain.routes(ground)
    places = np.argwhere(ground)
    random = np.random.default_rng(0)
    for start, goal in random.choice(places, (200, 2)):
        here, end, turns = start[0] * 32 + start[1], goal[0] * 32 + goal[1], 0
        while table[here, end] >= 0:
            here, turns = table[here, end], turns + 1
            assert ground[here // 32, here % 32] and turns < 12
