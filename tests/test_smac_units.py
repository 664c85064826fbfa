"""What only some units do: fly, heal, burn a line, explode, stand still, climb. Numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.envs.smac import BattleMap, Smac, SmacSettings, make
from limbeck.envs.smac.units import LADDER, LIBERTY, hit_damage

OPEN = ((0, 0, 32, 32),)
KEY = jax.random.key(0)


def battle(allies, enemies, **options):
    """A small battle on open ground, against an opponent that waits."""
    return Smac("trial", SmacSettings(), BattleMap(allies, enemies, 100, **{"walkable": OPEN, "attack_point": None, **options}))


def staged(env, places, **bodies):
    state = env.reset(KEY)
    pos = jnp.asarray(np.array(places, np.float32).T)
    changed = {name: jnp.asarray(np.array(value), getattr(state.bodies, name).dtype) for name, value in bodies.items()}
    return state._replace(bodies=state.bodies._replace(pos=pos, **changed))


def after(env, state, actions, steps=1):
    step = jax.jit(env.step)
    for index in range(steps):
        state, out = step(state, jnp.array(actions), jax.random.key(index))
    return state, out


def test_the_rest_of_the_tables():
    assert hit_damage(LIBERTY["baneling"], LIBERTY["marine"]) == 35 and hit_damage(LIBERTY["baneling"], LIBERTY["stalker"]) == 20
    assert hit_damage(LIBERTY["baneling"], LIBERTY["spine_crawler"]) == 80
    assert hit_damage(LIBERTY["spine_crawler"], LIBERTY["stalker"]) == 30
    assert hit_damage(LADDER["colossus"], LADDER["zergling"]) == 15 and LADDER["colossus"].range == 7
    assert hit_damage(LADDER["baneling"], LADDER["zealot"]) == 35 and LADDER["spine_crawler"].period == 1.85


# -- medivacs --------------------------------------------------------------------------------------------------------------


MEDICS = (("marauder", 1), ("marine", 1), ("medivac", 1))
FAR = (30, 30)


def test_an_order_to_heal_is_obeyed():
    env = battle(MEDICS, (("marine", 3),))
    state = staged(env, [(10, 10), (12, 10), (11, 12), FAR, FAR, FAR], health=[100, 45, 150, 45, 45, 45])
    healed, _ = after(env, state, [1, 1, 6])
    assert float(healed.bodies.health[0]) == pytest.approx(104.5)  # 9 points a second
    assert float(healed.bodies.energy[2]) == pytest.approx(50 - 4.5 * 0.33 + 0.5625 / 2, abs=1e-3)
    assert bool(healed.attacked[2]) and int(env.snapshot(healed).target[2]) == 0
    np.testing.assert_array_equal(healed.bodies.pos[:, 2], [11, 12])
    idle, _ = after(env, state, [1, 1, 1])
    assert float(idle.bodies.health[0]) == 100  # never without an order
    assert float(idle.bodies.energy[2]) == pytest.approx(50.28125)
    refused, _ = after(env, state, [1, 1, 7])
    assert float(refused.bodies.health[1]) == 45 and float(refused.bodies.energy[2]) > 50  # who is whole needs nothing
    tired, _ = after(env, state._replace(bodies=state.bodies._replace(energy=jnp.zeros(6))), [1, 1, 6])
    assert 100 < float(tired.bodies.health[0]) < 101.5  # only what the recovering energy pays for


def test_a_healer_gets_going_slowly():
    env = battle(MEDICS, (("marine", 3),))
    state = staged(env, [(10, 10), (12, 10), (3, 20), FAR, FAR, FAR])
    loops = np.arange(1, 9)
    first, _ = after(env, state, [1, 1, 4])
    assert float(first.bodies.pos[0, 2]) == pytest.approx(3 + (2.3125 * loops / 16).sum() / 16, abs=1e-4)
    later, _ = after(env, state, [1, 1, 4], steps=6)
    last, _ = after(env, later, [1, 1, 4])
    assert float(last.bodies.pos[0, 2] - later.bodies.pos[0, 2]) == pytest.approx(2.75 / 2, abs=1e-4)


def test_heal_orders_name_allies_that_are_no_healers():
    env = make("MMM")  # marauders 0-1, marines 2-8, medivac 9
    places = [(10 + i / 2, 12) for i in range(9)] + [(12, 16)] + [(14, 20)] * 10
    places[8] = (22, 12)
    health = env.facts.column("health").copy()
    health[3] = 0
    state = staged(env, places, health=health)
    avail = np.array(env.observe(state).avail_actions)
    np.testing.assert_array_equal(avail[9, 6:], [True, True, True, False, True, True, True, True, False, False])
    assert not avail[0, 6:].any()  # the enemies are 8 away
    obs = np.array(env.observe(state).obs)[9]
    np.testing.assert_array_equal(obs[4 : 4 + 80].reshape(10, 8)[:, 0], avail[9, 6:])  # SMAC shows the order's own flag
    vector = np.array(env.observe(state).state)[:70].reshape(10, 7)
    assert vector[9, 1] == pytest.approx(50 / 200)
    np.testing.assert_array_equal(vector[:, 4:].argmax(axis=1)[[0, 2, 9]], [0, 1, 2])


def test_flyers_are_hit_by_some_and_bump_into_none():
    env = battle((("marauder", 1), ("marine", 1)), (("marine", 1), ("medivac", 1)))
    state = staged(env, [(10, 10), (10, 12), FAR, (13, 11)])
    shot, _ = after(env, state, [7, 7])
    assert float(shot.bodies.health[3]) == 150 - 5  # the marine's 6 less armour 1; the marauder has no weapon for it
    assert not bool(shot.attacked[0]) and bool(shot.attacked[1])
    np.testing.assert_array_equal(shot.bodies.pos[:, 0], [10, 10])
    above = staged(env, [(10, 10), (20, 10), FAR, (10.1, 10)])
    np.testing.assert_array_equal(after(env, above, [1, 1])[0].bodies.pos[:, 0], [10, 10])


def test_the_opponents_healers_take_the_worst_off():
    env = battle((("marine", 1),), (("marine", 3), ("medivac", 1)))
    places = [(1, 1), (20, 20), (22, 20), (24, 20), (22, 22)]
    state = staged(env, places, health=[45, 45, 30, 10, 150])
    healed, _ = after(env, state, [1])
    assert int(healed.bodies.target[4]) == 2
    assert float(healed.bodies.health[3]) > 13 and float(healed.bodies.health[2]) == 30
    both, _ = after(env, state, [1], steps=14)
    np.testing.assert_allclose(both.bodies.health[1:4], 45)
    low, _ = after(env, state._replace(bodies=state.bodies._replace(energy=jnp.full(5, 4.0))), [1])
    assert int(low.bodies.target[4]) == -1  # it takes 5 to begin
    distant, _ = after(env, staged(env, [(1, 1), (1, 30), (1, 28), (3, 28), (22, 2)], health=[45, 5, 5, 5, 150]), [1])
    assert int(distant.bodies.target[4]) == -1


@pytest.mark.parametrize(
    ("left", "ends", "won"),
    [
        ({9}, True, False),  # our medivac alone: lost
        ({2, 19}, True, True),  # theirs alone: won
        ({9, 19}, True, False),  # SMAC looks at its own side first
        (set(), True, False),
        ({2, 12}, False, False),
    ],
)
def test_only_medivacs_left(left, ends, won):
    env = make("MMM")
    health = np.where([unit in left for unit in range(20)], env.facts.column("health"), 0)
    state = staged(env, [(2, 10)] * 10 + [(30, 22)] * 10, health=health)
    _, out = after(env, state, [1] * 10)
    assert bool(out.terminated) is ends and bool(out.info["won"]) is won
    assert float(out.reward) == pytest.approx(200 * won * 20 / 1015)


# -- colossi ---------------------------------------------------------------------------------------------------------------


def test_a_colossus_burns_a_line_across_its_target_twice():
    env = battle((("colossus", 1),), (("zergling", 6),))
    # The target straight ahead; 1.7 to its side (inside 1.25 + 0.15 + 0.375); 1.8 (outside); behind it by 0.5 (inside) and 0.6.
    places = [(10, 10), (15, 10), (15, 11.7), (15, 8.2), (15.5, 10), (14.4, 10), FAR]
    shot, _ = after(env, staged(env, places), [6])
    np.testing.assert_array_equal(np.array(shot.bodies.health[1:]) <= 0, [True, True, False, True, False, False])
    env = battle((("colossus", 1),), (("stalker", 1),))
    shot, _ = after(env, staged(env, [(10, 10), (15, 10)]), [6])
    assert float(shot.bodies.shield[1]) == 80 - 40


@pytest.mark.long
def test_colossi_cross_cliffs_and_zerglings_walk_around():
    env = make("2c_vs_64zg")
    alive = np.zeros(66)
    alive[[0, 1, 2]] = [200, 200, 35]
    places = np.full((66, 2), (30.0, 15.0))
    places[0], places[1], places[2] = (16, 15), (30, 15), (14.5, 10.5)
    state = staged(env, places, health=alive)
    over, _ = after(env, state, [3, 1], steps=3)
    assert 10.5 < float(over.bodies.pos[1, 0]) < 12  # 3 x 1.125 to the south, onto and over the wall
    pos = [np.array(state.bodies.pos[:, 2])]
    quiet = state._replace(bodies=state.bodies._replace(health=state.bodies.health.at[1].set(0)))
    for _ in range(18):
        quiet, _ = after(env, quiet, [1, 0])
        pos.append(np.array(quiet.bodies.pos[:, 2]))
    path = np.array(pos)
    assert np.hypot(*(path[-1] - (16, 15))) < 2.5, path  # it arrived
    assert (path[:, 0] < 4).any() or (path[:, 0] > 28).any(), path  # by one of the ramps


# -- banelings -------------------------------------------------------------------------------------------------------------


def test_a_baneling_takes_its_neighbours_with_it():
    env = battle((("baneling", 2),), (("marine", 2), ("stalker", 1), ("medivac", 1)))
    # 2.2 around itself and their radius: a marine at 2.5 is in, one at 2.7 is not; flyers are not touched.
    places = [(10, 10), (5, 5), (10.9, 10), (10, 12.7), (10, 7.3), (10, 10)]
    state = staged(env, places, cooldown=[0, 0, 99, 99, 99, 0], energy=[-9] * 6)  # nobody answers, nobody heals
    burst, _ = after(env, state, [6, 1])
    np.testing.assert_allclose(burst.bodies.health, [0, 30, 10, 45, 80, 150], atol=1e-4)
    assert float(burst.bodies.shield[4]) == 60
    assert int(burst.bodies.fuse.sum()) == 0


def test_a_baneling_explodes_when_killed_and_sets_off_others():
    env = battle((("stalker", 1), ("zealot", 2)), (("baneling", 3),), enemy_point=(23, 16))
    # The zealots stand beside the second baneling, which the first one's death does not reach: nobody hits friends.
    places = [(10, 10), (15.5, 12), (15.5, 8), (15.5, 10), (25, 25), (27, 27)]
    state = staged(env, places, health=[80, 100, 100, 8, 30, 30])
    burst, out = after(env, state, [6, 1, 1])
    assert float(burst.bodies.health[3]) == 0
    np.testing.assert_allclose(burst.bodies.shield[1:3], 50 - 35, atol=1e-4)
    assert int(out.info["dead_enemies"]) == 1
    again, _ = after(env, burst, [1, 1, 1])
    np.testing.assert_allclose(again.bodies.shield[1:3], 50 - 35, atol=1e-4)  # once


# -- spine crawlers, marches -----------------------------------------------------------------------------------------------


def test_a_spine_crawler_stands_and_reaches_seven():
    env = make("2s_vs_1sc")
    state = staged(env, [(13.92, 11.6), (19, 9), (13.92, 20.04)])  # 8.44 away: range 7 and both bodies are 8.5
    hit, _ = after(env, state, [1, 1], steps=2)
    assert float(hit.bodies.shield[0]) == 80 - 30
    np.testing.assert_allclose(hit.bodies.pos[:, 2], [13.92, 20.04], atol=1e-5)
    safe, _ = after(env, staged(env, [(13.92, 11.4), (19, 9), (13.92, 20.04)]), [1, 1], steps=4)
    assert float(safe.bodies.shield[0]) == 80 and int(safe.bodies.target[2]) == -1


def test_the_march_goes_to_a_place_between_two_points():
    env = make("2m_vs_1z")
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(KEY, 64))
    x, y = np.array(states.march).T
    assert 13 <= x.min() < 14 and 18 < x.max() <= 19 and (y == 12).all()
    ally = np.array(states.bodies.pos)[:, :, :2]
    np.testing.assert_allclose(ally.mean(axis=0), [[13, 19], [12, 12]], atol=0.3)


def test_zerglings_and_zealots_walk_through_the_corridor():
    env = make("corridor")
    alive = np.array([100] + [0] * 5 + [35] + [0] * 23)
    places = np.full((30, 2), (4.0, 4.0))
    places[6] = (27, 28)
    state, _ = after(env, staged(env, places, health=alive), [1, 0, 0, 0, 0, 0], steps=23)
    assert np.hypot(*(np.array(state.bodies.pos[:, 6]) - 4)) < 2.5
