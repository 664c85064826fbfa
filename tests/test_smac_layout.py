"""The interface of SMAC: sizes, slots, availability. Numbers from the rules, not from the code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.envs.smac import MAPS, SmacSettings, make

#       agents, enemies, limit, obs, state, actions, best reward
SIZES = {
    "3m": (3, 3, 60, 30, 48, 9, 365),
    "8m": (8, 8, 120, 80, 168, 14, 640),
    "25m": (25, 25, 150, 250, 950, 31, 1575),
    "5m_vs_6m": (5, 6, 70, 55, 98, 12, 530),
    "8m_vs_9m": (8, 9, 120, 85, 179, 15, 695),
    "10m_vs_11m": (10, 11, 150, 105, 243, 17, 805),
    "27m_vs_30m": (27, 30, 180, 285, 1170, 36, 1850),
    "MMM": (10, 10, 150, 160, 290, 16, 1015),
    "MMM2": (10, 12, 180, 176, 322, 18, 1205),
    "2s3z": (5, 5, 120, 80, 120, 11, 1020),
    "3s5z": (8, 8, 150, 128, 216, 14, 1510),
    "3s5z_vs_3s6z": (8, 9, 170, 136, 230, 15, 1670),
    "3s_vs_3z": (3, 3, 150, 36, 54, 9, 680),
    "3s_vs_4z": (3, 4, 200, 42, 61, 10, 840),
    "3s_vs_5z": (3, 5, 250, 48, 68, 11, 1000),
    "1c3s5z": (9, 9, 180, 162, 270, 15, 1870),
    "2m_vs_1z": (2, 1, 150, 16, 26, 7, 360),
    "corridor": (6, 24, 400, 156, 282, 30, 1280),
    "6h_vs_8z": (6, 8, 150, 78, 140, 14, 1480),
    "2s_vs_1sc": (2, 1, 300, 17, 27, 7, 510),
    "so_many_baneling": (7, 32, 100, 202, 397, 38, 1480),
    "bane_vs_bane": (24, 24, 200, 336, 984, 30, 1260),
    "2c_vs_64zg": (2, 64, 400, 332, 342, 70, 3080),
    "3s_vs_8z": (3, 8, 350, 66, 89, 14, 1480),
    "3s5z_vs_3s7z": (8, 10, 170, 144, 244, 16, 1830),
}


def place(env, ally_at, enemy_at, key=0, **bodies):
    """A state with everybody at hand-picked places; units beyond the lists stay where they appeared."""
    state = env.reset(jax.random.key(key))
    pos = np.array(state.bodies.pos)
    for index, where in enumerate(ally_at):
        pos[:, index] = where
    for index, where in enumerate(enemy_at):
        pos[:, env.spec.n_agents + index] = where
    changed = {name: jnp.asarray(np.array(value), getattr(state.bodies, name).dtype) for name, value in bodies.items()}
    return state._replace(bodies=state.bodies._replace(pos=jnp.asarray(pos), **changed))


def test_every_map_is_in_the_table():
    assert set(MAPS) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    env = make(name)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions - 6, spec.episode_limit) == SIZES[name][:3]
    assert (spec.obs_dim, spec.state_dim, spec.n_actions) == SIZES[name][3:6]
    assert env.max_reward == pytest.approx(SIZES[name][6])
    seen = jax.eval_shape(lambda key: env.observe(env.reset(key)), jax.random.key(0))
    assert seen.obs.shape == (spec.n_agents, spec.obs_dim)
    assert seen.state.shape == (spec.state_dim,)
    assert seen.avail_actions.shape == (spec.n_agents, spec.n_actions)


def test_sizes_follow_the_options():
    everything = SmacSettings(obs_all_health=False, obs_own_health=False, obs_last_action=True, state_last_action=False)
    env = make("2s3z", everything)
    # 5 enemies x (4 + 2 types), 4 allies x (4 + 2 types + 11 actions), own 2 types
    assert env.spec.obs_dim == 4 + 5 * 6 + 4 * 17 + 2
    assert env.spec.state_dim == 120 - 5 * 11
    assert env.observe(env.reset(jax.random.key(0))).obs.shape == (5, env.spec.obs_dim)


def test_observation_slot_by_slot():
    env = make("2s3z")  # allies: stalkers 0-1, zealots 2-4; the enemies in the same order
    health = env.facts.column("health").copy()
    shield = env.facts.column("shield").copy()
    health[5], shield[5] = 40, 20  # the first enemy, a stalker
    health[1], shield[1] = 60, 0  # the other ally stalker
    health[3] = 0  # a dead zealot
    state = place(env, [(10, 16), (11, 17), (10, 14)], [(15, 16), (13, 20), (25, 16)], health=health, shield=shield)
    obs = np.array(env.observe(state).obs)[0]
    np.testing.assert_array_equal(obs[:4], 1)  # in the open, every move is possible
    enemies = obs[4 : 4 + 5 * 8].reshape(5, 8)
    # attackable, distance, dx, dy, health, shield, then the one-hot in which enemy zealots come first
    np.testing.assert_allclose(enemies[0], [1, 5 / 9, 5 / 9, 0, 0.5, 0.25, 0, 1], atol=1e-6)
    np.testing.assert_allclose(enemies[1], [1, 5 / 9, 3 / 9, 4 / 9, 1, 1, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(enemies[2], 0)  # 15 away
    others = obs[44 : 44 + 4 * 8].reshape(4, 8)
    np.testing.assert_allclose(others[0], [1, 2**0.5 / 9, 1 / 9, 1 / 9, 0.75, 0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(others[1], [1, 2 / 9, 0, -2 / 9, 1, 1, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(others[2], 0)  # dead
    np.testing.assert_array_equal(obs[76:], [1, 1, 1, 0])
    # Seen by the second agent, the first is the first of the others.
    second = np.array(env.observe(state).obs)[1]
    np.testing.assert_allclose(second[44:52], [1, 2**0.5 / 9, -1 / 9, -1 / 9, 1, 1, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(np.array(env.observe(state).obs)[3], 0)  # the dead see nothing


def test_enemy_zealots_have_the_first_bit():
    env = make("3s5z_vs_3s6z")
    state = place(env, [(10, 16)], [(22, 10), (22, 11), (22, 12), (12, 16)])
    obs = np.array(env.observe(state).obs)[0]
    enemies = obs[4 : 4 + 9 * 8].reshape(9, 8)
    np.testing.assert_allclose(enemies[3], [1, 2 / 9, 2 / 9, 0, 1, 1, 1, 0], atol=1e-6)


def test_shields_are_seen_on_protoss_sides_only():
    env = make("6h_vs_8z")
    state = place(env, [(12, 12), (13, 12)], [(14, 12)])
    obs = np.array(env.observe(state).obs)[0]
    np.testing.assert_allclose(obs[4:10], [1, 2 / 9, 2 / 9, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(obs[4 + 8 * 6 : 4 + 8 * 6 + 5], [1, 1 / 9, 1 / 9, 0, 1], atol=1e-6)
    assert obs[-1] == 1


def test_state_slot_by_slot():
    env = make("2s3z")
    health, shield = env.facts.column("health").copy(), env.facts.column("shield").copy()
    cooldown = np.zeros(10)
    health[0], shield[0], cooldown[0] = 20, 40, 7
    health[4] = 0
    cooldown[1], cooldown[2] = -1, 11  # a swing under way counts as a ready weapon
    state = place(env, [(10, 20), (9, 9), (16, 16)], [(24, 8)], health=health, shield=shield, cooldown=cooldown)
    state = state._replace(last_action=jnp.array([1, 2, 6, 10, 0]))
    vector = np.array(env.observe(state).state)
    allies = vector[: 5 * 7].reshape(5, 7)  # health, cooldown, x, y, shield, stalker, zealot
    np.testing.assert_allclose(allies[0], [0.25, 7 / 35, -6 / 32, 4 / 32, 0.5, 1, 0], atol=1e-6)
    np.testing.assert_allclose(allies[1], [1, 0, -7 / 32, -7 / 32, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(allies[2], [1, 11 / 22, 0, 0, 1, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(allies[4], 0)
    enemies = vector[35 : 35 + 5 * 6].reshape(5, 6)  # health, x, y, shield, zealot, stalker
    np.testing.assert_allclose(enemies[0], [1, 8 / 32, -8 / 32, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(enemies[4][[0, 3, 4, 5]], [1, 1, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(vector[65:].reshape(5, 11).argmax(axis=1), [1, 2, 6, 10, 0])
    np.testing.assert_array_equal(vector[65:].reshape(5, 11).sum(axis=1), 1)
    for index, (start, stop) in enumerate(env.spec.state_slots):
        np.testing.assert_array_equal(vector[start:stop], allies[index])
    for index, (start, stop) in enumerate(env.spec.other_slots):
        np.testing.assert_array_equal(vector[start:stop], enemies[index])


@pytest.mark.parametrize("name", SIZES)
def test_slots_list_every_unit_in_turn_and_leave_the_last_actions(name):
    spec = make(name).spec
    slots = (*spec.state_slots, *spec.other_slots)
    assert (len(spec.state_slots), len(spec.other_slots)) == SIZES[name][:2]
    assert [start for start, _ in slots] == [0, *(stop for _, stop in slots[:-1])]
    assert slots[-1][1] == spec.state_dim - spec.n_agents * spec.n_actions


def test_no_last_action_before_the_first():
    env = make("3m")
    assert (np.array(env.observe(env.reset(jax.random.key(0))).state)[-27:] == 0).all()


def test_moves_follow_the_walkable_cells():
    env = make("3m")  # walkable: y from 8 to below 24
    # int(y + 1) is a cell: 23 is walkable, 24 is not. int(-0.5) is cell 0.
    state = place(env, [(0.5, 22.9), (31.2, 23.0), (12.0, 8.9)], [])
    avail = np.array(env.observe(state).avail_actions)
    np.testing.assert_array_equal(avail[:, 0], False)
    np.testing.assert_array_equal(avail[:, 1], True)
    np.testing.assert_array_equal(avail[0, 2:6], [True, True, True, True])
    np.testing.assert_array_equal(avail[1, 2:6], [False, True, False, True])
    np.testing.assert_array_equal(avail[2, 2:6], [True, False, True, True])
    np.testing.assert_array_equal(np.array(env.observe(state).obs)[:, :4], avail[:, 2:6])


def test_moves_on_ground_of_several_rectangles():
    env = make("6h_vs_8z")
    state = place(env, [(10.5, 17.5), (9.5, 12.0), (8.5, 12.0)], [])
    avail = np.array(env.observe(state).avail_actions)
    np.testing.assert_array_equal(avail[0, 2:6], [True, True, True, True])  # north: cell (10, 18)
    np.testing.assert_array_equal(avail[1, 2:6], [True, True, True, True])
    np.testing.assert_array_equal(avail[2, 2:6], [True, True, True, False])


def test_attack_is_open_within_six_whatever_the_weapon():
    env = make("3s5z")
    health = env.facts.column("health").copy()
    health[8 + 2] = 0
    state = place(env, [(10, 16), (1, 9), (1, 10), (10, 16.5)], [(16, 16), (16.1, 16), (12, 16)], health=health)
    avail = np.array(env.observe(state).avail_actions)
    np.testing.assert_array_equal(avail[0, 6:9], [True, False, False])  # 6.0 away, 6.1 away, dead
    np.testing.assert_array_equal(avail[1, 6:9], False)
    zealot = place(env, [(1, 9), (1, 10), (2, 9), (10, 16)], [(15.9, 16)])
    assert np.array(env.observe(zealot).avail_actions)[3, 6]  # far beyond its blade, still an order


def test_the_dead_may_only_do_nothing():
    env = make("3m")
    health = env.facts.column("health").copy()
    health[1] = 0
    seen = env.observe(place(env, [], [], health=health))
    np.testing.assert_array_equal(np.array(seen.avail_actions)[1], [True] + [False] * 8)
    np.testing.assert_array_equal(seen.alive, [True, False, True])


def test_short_sight_changes_observations_only():
    far, near = make("3m"), make("3m", SmacSettings(sight_range=2.0))
    state = place(far, [(10, 16), (10, 17)], [(14, 16)])
    a, b = far.observe(state), near.observe(state)
    np.testing.assert_array_equal(a.state, b.state)
    np.testing.assert_array_equal(a.avail_actions, b.avail_actions)
    np.testing.assert_array_equal(np.array(b.obs)[0, 4:9], 0)
    np.testing.assert_allclose(np.array(b.obs)[0, 19:24], [1, 0.5, 0, 0.5, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": "void"}, "must be one of liberty, ladder"),
        ({"sight_range": 0.0}, "sight_range is 0.0"),
        ({"shoot_range": float("nan")}, "finite number above 0"),
        ({"reward_death_value": -1.0}, "0 or above"),
        ({"ticks_per_step": 3}, "1, 2, 4 or 8"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SmacSettings(**options)


def test_unknown_maps_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean 3s_vs_5z"):
        make("3s_v_5z")
