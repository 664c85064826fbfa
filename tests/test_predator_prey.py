"""Predator and prey: every rule in a small scene, the whole against plain loops, and the returns of scripted hunters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck import rollout
from limbeck.envs import registry
from limbeck.envs.base import AutoReset, VmapBatch
from limbeck.envs.check import check_env
from limbeck.envs.hunters import baselines
from limbeck.envs.predator_prey import CATCH, COMPASS, GONE, STAY, PredatorPrey, PredatorPreyState
from limbeck.errors import BadSetting, UnknownName
from limbeck.evaluate import evaluate
from limbeck.types import Decision

RIGHT, DOWN, LEFT, UP = range(4)
N_TRIALS = 2000
KEYS = jax.random.split(jax.random.key(7), N_TRIALS)


def scene(*rows, **settings):
    """A world and its state from a drawing of agents `a` to `e` and prey `1` to `4`; who is not drawn is gone."""
    env = PredatorPrey(**{"size": 5, "agents": 5, "preys": 4, "view": 3} | settings)
    drawn = {name: i * env.width + j for i, row in enumerate(rows) for j, name in enumerate(row)}
    agents = [drawn.get(chr(ord("a") + i), -GONE) for i in range(env.agents)]
    prey = [drawn.get(str(1 + i), GONE) for i in range(env.preys)]
    return env, PredatorPreyState(jnp.int32(0), jnp.array(agents, jnp.int32), jnp.array(prey, jnp.int32))


def drawing(env, state):
    """The first row of a state."""
    names = ["a", "b", "c", "d", "e", "1", "2", "3", "4"]
    row = dict(zip([*state.agents.tolist(), *state.prey.tolist()], names, strict=True))
    return "".join(row.get(place, ".") for place in range(env.size))


def all_of(env, first, rest):
    return jnp.array([*first, *[rest] * (env.agents - len(first))])


def step(env, state, action, key):
    """One step; who is told nothing stays."""
    return _step(env, state, all_of(env, action, STAY), key)


def steps(env, state, action):
    """The same step in `N_TRIALS` worlds."""
    return _steps(env, state, all_of(env, action, STAY), KEYS)


def walk(env, state, action, order):
    order = [*order, *(i for i in range(env.agents) if i not in order)]
    return state._replace(agents=_walk(env, state, all_of(env, action, STAY), jnp.array(order)))


def hunt(env, state, catching, order):
    """Every prey goes the first way that is free."""
    order = [*order, *(i for i in range(env.preys) if i not in order)]
    return _hunt(env, state, all_of(env, catching, False), jnp.array(order), jnp.zeros(env.preys))


_step = jax.jit(PredatorPrey.step, static_argnums=0)
_steps = jax.jit(lambda env, state, action, keys: jax.vmap(lambda key: env.step(state, action, key))(keys), static_argnums=0)
_walk = jax.jit(PredatorPrey.walk, static_argnums=0)
_hunt = jax.jit(PredatorPrey.hunt, static_argnums=0)
_observe = jax.jit(PredatorPrey.observe, static_argnums=0)


# -- what is shown ---------------------------------------------------------------------------------------------------------


def test_sizes_are_those_of_the_original():
    spec = registry.make("predator_prey/8v8").spec
    assert (spec.name, spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim) == ("predator_prey/8v8", 8, 6, 75, 300)
    assert (spec.episode_limit, spec.state_slots, spec.has_win) == (200, None, False)


def test_what_is_available():
    env, state = scene("a....", ".1b..", ".....", ".....", "2...d")  # c is frozen, e as well
    seen = _observe(env, state)
    right, down, left, up, stay, catch = np.asarray(seen.avail_actions)[:4].T
    assert right.tolist() == [True, True, False, False]
    assert down.tolist() == [True, True, False, False]
    assert left.tolist() == [False, True, False, True], "into a prey is available"
    assert up.tolist() == [False, True, False, True]
    assert stay.all()
    assert catch.tolist() == [False, True, False, False], "neither diagonally, nor two away"
    assert seen.alive.tolist() == [True, True, False, True, False]


def test_an_agent_sees_what_is_around_it_and_no_wall():
    env, state = scene("..1..", "..a..", "...2.", ".....", "b....")
    seen = _observe(env, state)
    around = np.asarray(seen.obs).reshape(5, 3, 3, 3)
    assert np.argwhere(around[0]).tolist() == [[0, 1, 1], [1, 1, 0], [2, 2, 1]]
    assert np.argwhere(around[1]).tolist() == [[1, 1, 0]]
    grid = np.asarray(seen.state).reshape(5, 5, 3)
    assert np.argwhere(grid).tolist() == [[0, 2, 1], [1, 2, 0], [2, 3, 1], [4, 0, 0]]


def test_no_view_reaches_around_the_border():
    env, state = scene("....a", "1....", "b...2", view=9)
    around = np.asarray(_observe(env, state).obs).reshape(5, 9, 9, 3)
    assert np.argwhere(around[0]).tolist() == [[4, 4, 0], [5, 0, 1], [6, 0, 0], [6, 4, 1]]
    assert np.argwhere(around[1]).tolist() == [[2, 8, 0], [3, 4, 1], [4, 4, 0], [4, 8, 1]]


def test_the_frozen_are_blind_and_unseen():
    seen = _observe(*scene("a.1"))
    assert not seen.obs[1:].any() and seen.obs[0].sum() == 1 and seen.state.sum() == 2


# -- agents move -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "row"), [(RIGHT, "1.a.."), (DOWN, "1...."), (LEFT, "1a..."), (UP, "1a..."), (STAY, "1a...")])
def test_moves_and_what_stops_them(action, row):
    env, state = scene("1a...")
    after = walk(env, state, [action], [0])
    assert drawing(env, after) == row
    assert action != DOWN or after.agents[0] == env.width + 1


def test_agents_move_one_by_one():
    env, state = scene("ab...")
    assert drawing(env, walk(env, state, [RIGHT, RIGHT], [0, 1])) == "a.b.."
    assert drawing(env, walk(env, state, [RIGHT, RIGHT], [1, 0])) == ".ab.."
    assert drawing(env, walk(env, state, [RIGHT, LEFT], [1, 0])) == "ab...", "they cannot change places"


def test_everyone_is_first_as_often():
    env, state = scene("a.b..", ".....", "....1")
    after, _ = steps(env, state, [RIGHT, LEFT])
    a_first = np.asarray(after.agents[:, 0] == 1)
    assert (a_first ^ np.asarray(after.agents[:, 1] == 1)).all(), "one of them gets there"
    assert abs(a_first.mean() - 0.5) < 4 * 0.5 / np.sqrt(N_TRIALS)


def test_the_frozen_do_not_move(key):
    env, state = scene("a....", ".....", "....1")
    for action in range(6):
        assert (step(env, state, [STAY, *[action] * 4], key)[0].agents[1:] == -GONE).all()


# -- prey are hunted -------------------------------------------------------------------------------------------------------


def test_two_catch_and_leave_the_grid_with_their_prey(key):
    env, state = scene("a1b..", ".c...", ".....", "...2.")
    after, outcome = step(env, state, [CATCH, CATCH, STAY], key)
    assert outcome.reward == 10 and not outcome.terminated
    assert (after.agents[:3] == -GONE).tolist() == [True, True, False] and after.agents[2] == state.agents[2], "c did not catch"
    assert after.prey[0] == GONE and after.prey[1] != GONE


def test_all_who_catch_one_prey_are_frozen(key):
    env, state = scene("a1b..", ".c...", "...d.", "...2.")
    after, outcome = step(env, state, [CATCH, CATCH, CATCH, STAY], key)
    assert outcome.reward == 10
    assert (after.agents == -GONE).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("rows", "action", "reward"),
    [
        (["1a...", "....."], [CATCH], -2),
        (["1a2..", "....."], [CATCH], -4),  # for every prey
        (["1a.b2", "....."], [CATCH, CATCH], -4),
        (["1a...", "..b.."], [STAY, CATCH], 0),  # b is beside none
        (["1a...", "..b.."], [STAY, STAY], 0),
    ],
)
def test_catching_alone_is_charged_per_prey(rows, action, reward, key):
    env, state = scene(*rows)
    after, outcome = step(env, state, action, key)
    assert outcome.reward == reward and (after.agents == state.agents).all()
    assert ((after.prey != state.prey) | (state.prey == GONE)).all(), "whoever is not caught moves"


def test_settings_change_the_rewards(key):
    env, state = scene("1a...", "...2b", "...c.", penalty=-1.5, capture_reward=3.0)
    assert step(env, state, [CATCH], key)[1].reward == -1.5
    assert step(env, state, [STAY, CATCH, CATCH], key)[1].reward == 3


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_who_was_frozen_helps_with_no_later_prey(order):
    env, state = scene("a1b2c")
    after, reward = hunt(env, state, [True] * 3, order)
    assert reward == 10 - 2
    gone = [True, True, False] if order == [0, 1] else [False, True, True]
    assert (after.agents[:3] == -GONE).tolist() == gone and (after.prey[:2] == GONE).tolist() == [order[0] == 0, order[0] == 1]


def test_the_agents_move_before_the_catch(key):
    env, state = scene("1ab..")
    assert step(env, state, [CATCH, LEFT], key)[1].reward == -2, "b came no nearer"
    env, state = scene(".1a..", "..b..")
    assert step(env, state, [CATCH, LEFT], key)[1].reward == -2, "b came nearer, but who moves does not catch"


# -- prey move -------------------------------------------------------------------------------------------------------------


def test_prey_goes_to_every_free_cell_as_often():
    env, state = scene(".....", ".1a..")
    after, _ = steps(env, state, [STAY])
    places, counts = np.unique(np.asarray(after.prey[:, 0]), return_counts=True)
    assert places.tolist() == [1, env.width, 2 * env.width + 1], "above, to the left and below, never on the spot"
    share = 1 / 3
    assert (np.abs(counts / N_TRIALS - share) < 4 * np.sqrt(share * (1 - share) / N_TRIALS)).all()


def test_prey_that_cannot_move_stays():
    env, state = scene("1a...", "b....")
    after, _ = steps(env, state, [STAY, STAY])
    assert (after.prey == state.prey[None]).all()


def test_prey_finds_the_cells_that_were_left_before_its_turn():
    env, state = scene("12a..", "b....")
    first, _ = hunt(env, state, [], [0, 1])
    assert first.prey[:2].tolist() == [0, env.width + 1], "1 is walled in by 2 and b; 2 goes down, its only way"
    then, _ = hunt(env, state, [], [1, 0])
    assert then.prey[:2].tolist() == [1, env.width + 1], "1 follows"


def test_prey_finds_the_cells_of_those_who_were_frozen():
    env, state = scene("1a2b.", "c....")
    after, reward = hunt(env, state, [True, True], [1, 0])
    assert reward == 10 and after.prey[:2].tolist() == [1, GONE], "to where a stood"
    after, reward = hunt(env, state, [True, True], [0, 1])
    assert reward == 10 - 2 and after.prey[:2].tolist() == [0, GONE], "a still stood there"


# -- the end ---------------------------------------------------------------------------------------------------------------


def ending(env, state, action, key):
    outcome = step(env, state, action, key)[1]
    return bool(outcome.terminated), bool(outcome.truncated)


def test_it_ends_when_all_prey_are_caught_or_all_agents_frozen(key):
    both = [CATCH, CATCH]
    assert ending(*scene("a1b..", "....c"), both, key) == (True, False)
    assert ending(*scene("a1b..", "....2"), both, key) == (True, False)
    assert ending(*scene("a1b..", "....c", "2...."), both, key) == (False, False)


def test_the_time_limit_truncates(key):
    env, state = scene("a1b..", "....c", episode_limit=5)
    last = state._replace(step=jnp.int32(4))
    assert ending(env, state, [], key) == (False, False)
    assert ending(env, last, [], key) == (False, True)
    assert ending(env, last, [CATCH, CATCH], key) == (True, False), "who ends it in the last step has ended it"


def test_learners_bootstrap_beyond_the_limit(key):
    env = AutoReset(scene(episode_limit=3)[0])

    def stay(params, carry, decision, key, explore):
        return jnp.full(decision.alive.shape, STAY), carry

    def episodes(key):
        worlds = rollout.start(env, (), jax.random.split(key, 2))
        return rollout.collect(env, stay, (), worlds, key, jnp.float32(0), 7)[1]

    segment = jax.jit(episodes)(key)
    assert segment.mask[:, 0].tolist() == [1, 1, 0, 1, 1, 0, 1] and not segment.terminated.any()
    assert segment.decisions.is_first[:, 0].tolist() == [True, False, False, True, False, False, True, False]


# -- the whole -------------------------------------------------------------------------------------------------------------


def by_loops(env, cells, action, orders, luck):
    """A step as the rules are written, on a dictionary of who is where: for any order and luck."""
    grid = {cell: who for who, cell in cells.items() if cell is not None}
    ways = {i: tuple(way) for i, way in enumerate(COMPASS.tolist())}

    def beside(cell):
        return [(cell[0] + i, cell[1] + j) for i, j in ways.values()]

    def is_free(cell):
        return cell not in grid and all(0 <= x < env.size for x in cell)

    def move(who, to):
        del grid[cells[who]]
        cells[who] = to
        if to is not None:
            grid[to] = who

    reward = 0.0
    for i in orders[0]:
        who = "agent", i
        if cells[who] and action[i] in ways and is_free(to := beside(cells[who])[action[i]]):
            move(who, to)
    for i in orders[1]:
        who = "prey", i
        if cells[who] is None:
            continue
        around = beside(cells[who])
        hunters = [h for cell in around if (h := grid.get(cell)) and h[0] == "agent" and action[h[1]] == CATCH]
        if len(hunters) >= 2:
            reward += env.capture_reward
            for each in [who, *hunters]:
                move(each, None)
            continue
        reward += env.penalty * len(hunters)
        if free := [cell for cell in around if is_free(cell)]:
            move(who, free[int(luck[i] * len(free))])
    return reward


@pytest.mark.parametrize(
    "settings",
    [{"size": 5, "view": 3}, {"size": 4, "agents": 5, "preys": 6, "view": 3}, {"size": 3, "agents": 4, "preys": 2, "view": 1}],
)
def test_plain_loops_come_to_the_same(settings):
    env, rng = PredatorPrey(**settings), np.random.default_rng(0)
    state, n_caught = env.reset(jax.random.key(1)), 0
    for t in range(150):
        action = np.where(rng.random(env.agents) < 0.6, CATCH, rng.integers(6, size=env.agents))
        orders = [rng.permutation(env.agents), rng.permutation(env.preys)]
        luck = rng.random(env.preys, dtype=np.float32)
        units = [("agent", i) for i in range(env.agents)] + [("prey", i) for i in range(env.preys)]
        places = np.concatenate([state.agents, state.prey])
        cells = {who: None if abs(at) == GONE else divmod(int(at), env.width) for who, at in zip(units, places, strict=True)}
        expected = by_loops(env, cells, action.tolist(), [order.tolist() for order in orders], luck)
        walked = state._replace(agents=_walk(env, state, jnp.array(action), jnp.array(orders[0])))
        state, reward = _hunt(env, walked, jnp.array(action == CATCH), jnp.array(orders[1]), jnp.array(luck))
        assert reward == expected
        gone = [-GONE] * env.agents + [GONE] * env.preys
        wanted = [at if cell is None else cell[0] * env.width + cell[1] for at, cell in zip(gone, cells.values(), strict=True)]
        assert [*state.agents.tolist(), *state.prey.tolist()] == wanted
        n_caught += int((state.prey == GONE).sum() > (places[env.agents :] == GONE).sum())
        if t % 10 == 9:  # crowded again
            state = env.reset(jax.random.key(rng.integers(1 << 30)))
    assert n_caught > 10


def test_an_episode_starts_anywhere():
    env = PredatorPrey(size=4, agents=3, preys=2, view=3)
    state = jax.jit(jax.vmap(env.reset))(KEYS)
    places = np.concatenate([state.agents, state.prey], axis=1)
    assert all(len(set(row)) == 5 for row in places.tolist())
    for unit in places.T:
        cells, counts = np.unique(unit, return_counts=True)
        assert len(cells) == 16 and (cells % env.width < 4).all()
        expected = N_TRIALS / 16
        assert ((counts - expected) ** 2 / expected).sum() < 44, "chi squared of 15 degrees of freedom, 1 in 10,000"


def test_what_never_changes_in_random_play(key):
    """No two on one cell, nobody off the grid, nobody returns, no more than a step at a time, and rewards that add up."""
    env, n_worlds = PredatorPrey(), 64
    batch = VmapBatch(env)

    def play(state, key):
        seen = batch.observe(state)
        often = jnp.where(jnp.arange(6) == CATCH, 2.0, 0.0)[None, None]
        action = jax.random.categorical(key, jnp.where(seen.avail_actions, often, -jnp.inf))
        state, outcome = batch.step(state, action, jax.random.split(key, n_worlds))
        return state, (state, outcome)

    start = batch.reset(jax.random.split(key, n_worlds))
    _, (states, outcome) = jax.jit(lambda s: jax.lax.scan(play, s, jax.random.split(key, env.episode_limit)))(start)
    agents, prey = (np.concatenate([a[None], b]) for a, b in ((start.agents, states.agents), (start.prey, states.prey)))
    places = np.concatenate([agents, prey], axis=-1)
    here = np.abs(places) != GONE
    assert (places[here] >= 0).all() and (places[here] % env.width < 10).all() and (places[here] // env.width < 10).all()
    apart = places[..., :, None] != places[..., None, :]
    assert (apart | ~here[..., None] | np.eye(16, dtype=bool)).all()
    assert (here[:-1] | ~here[1:]).all()
    moved = np.abs(np.diff(places, axis=0))[here[1:]]
    assert np.isin(moved, [0, 1, env.width]).all()
    caught, frozen = ((~here[..., units]).sum(-1) for units in (slice(8, 16), slice(0, 8)))
    assert (frozen >= 2 * caught).all() and caught.max() == 4
    charged = (10 * np.diff(caught, axis=0) - np.asarray(outcome.reward)) / 2
    assert (charged >= 0).all() and (charged == charged.round()).all()
    assert (np.asarray(outcome.terminated) == (frozen[1:] == 8)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 2, "agents": 2, "preys": 2, "view": 3, "episode_limit": 20},  # nobody can move
        {"size": 4, "agents": 6, "preys": 2, "view": 7, "penalty": 0.0, "episode_limit": 20},
    ],
)
def test_the_contract_holds_for_other_settings(settings, key):
    check_env(PredatorPrey(**settings), key)


# -- settings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 3}, "8 agents and 8 prey need a cell each; a grid of size 3 has 9"),
        ({"size": 0}, "size is a whole number from 1, not 0"),
        ({"preys": 0}, "preys is a whole number from 1, not 0"),
        ({"agents": 1}, "agents is a whole number from 2, not 1"),
        ({"agents": 2.5}, "agents is a whole number from 2, not 2.5"),
        ({"view": 4}, "view is odd and at most 19"),
        ({"view": 21}, "view is odd and at most 19"),
        ({"view": -1}, "view is a whole number from 1"),
        ({"episode_limit": 0}, "episode_limit is a whole number from 1"),
        ({"penalty": 2.0}, "penalty is a finite number that is not positive"),
        ({"penalty": float("nan")}, "penalty is a finite number"),
        ({"penalty": "much"}, "predator_prey/8v8 with"),
        ({"capture_reward": 0.0}, "capture_reward is a finite number above 0"),
        ({"capture_reward": float("inf")}, "capture_reward is a finite number above 0"),
    ],
)
def test_impossible_settings_are_one_line(settings, says):
    with pytest.raises(BadSetting, match=says) as caught:
        registry.make("predator_prey/8v8", **settings)
    assert "\n" not in str(caught.value)


def test_settings_that_do_not_exist_are_named():
    with pytest.raises(UnknownName, match="did you mean 'penalty'"):
        registry.make("predator_prey/8v8", penalti=-1.0)


def test_settings_reach_the_world():
    spec = registry.make("predator_prey/8v8", size=6, agents=4, preys=3, view=3, episode_limit=50).spec
    assert (spec.name, spec.n_agents, spec.obs_dim, spec.state_dim, spec.episode_limit) == ("predator_prey/4v3", 4, 27, 108, 50)


# -- hunters by script -----------------------------------------------------------------------------------------------------

EPISODES = 1024
REFERENCE_EPISODES = 30
# Mean return of 30 episodes of the original program; and that of 8,192 episodes of this one, with its standard error.
RETURNS = {"random": (-91.7, -93.5, 0.3), "eager": (-184.9, -163.9, 0.8), "careful": (30.5, 29.6, 0.1)}


def test_scripted_hunters_return_what_they_do_in_the_original():
    env = PredatorPrey()
    table = evaluate(env, baselines(env), EPISODES)
    assert [row["win_rate"] for row in table.rows] == [None] * 3
    for name, (original, ours, ours_error) in RETURNS.items():
        returns = table.episodes[name].returns
        spread = returns.std()
        assert abs(returns.mean() - original) < 3 * spread * np.sqrt(1 / EPISODES + 1 / REFERENCE_EPISODES), name
        assert abs(returns.mean() - ours) < 4 * np.hypot(spread / np.sqrt(EPISODES), ours_error), name
        assert returns.max() <= 40
    assert table.episodes["careful"].returns.max() == 40


def test_the_careful_mind_who_is_beside_the_same_prey():
    env = PredatorPrey(size=5, agents=5, preys=4)

    def catch(name, *rows):
        _, state = scene(*rows, view=5)
        seen = jax.tree.map(lambda x: x[None], _observe(env, state))
        decision = Decision.about(seen, jnp.zeros((1, 5), jnp.int32), jnp.ones(1, bool))
        policy, params = baselines(env)[name]
        action, _ = policy.act(params, (), decision.within(policy.view), jax.random.key(0), jnp.float32(0))
        return (action[0] == CATCH).tolist()

    each_their_own = "a1.b.", "...2.", "c....", "3.d..", "...e4"
    assert catch("eager", *each_their_own) == [True, True, True, False, True]
    assert catch("careful", *each_their_own) == [False] * 5
    assert catch("careful", "a1b..", ".....", "..c..", "2d.e3") == [True, True, False, False, False]


def test_the_careful_have_to_see_their_partners():
    with pytest.raises(BadSetting, match="a view of at least 5, not 3"):
        baselines(PredatorPrey(view=3))
