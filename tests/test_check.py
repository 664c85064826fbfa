"""The contract: kept by every registered world, and noticed when it is broken."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs import probe, registry
from limbeck.envs.base import VmapBatch
from limbeck.envs.check import ContractBroken, check_env
from limbeck.types import UnitSight

# Worlds behind the real game's door need a game; test_starcraft.py and test_host.py check them with a stand-in. Football needs its
# engine; test_football.py checks it where that is installed. Battles of 5 whose armies are drawn stand for the larger ones, which
# take long to compile.
# Worlds that need data are checked where their tests make some.
BARE = [name for name in registry.names() if not registry.needs_of(name)]
WORLDS = [name for name in BARE if not re.search(r"^(starcraft|football)/|_(10|20)_vs_", name)]
SOME = ["smac/3m"]


# At full effort: with less, one program multiplies and adds in one step where the other takes two, and a battle with many
# units tells the difference.
@pytest.mark.slow
@pytest.mark.parametrize("name", gated(WORLDS, *SOME, *(name for name in WORLDS if not name.startswith("smac/"))))
def test_every_registered_world_keeps_the_contract(name, key):
    check_env(registry.make(name), key)


class Broken:
    """A sound world with one verb replaced."""

    def __init__(self, inner=None, **verbs):
        inner = inner or probe.Lever()
        self.spec, self.reset, self.step, self.observe = inner.spec, inner.reset, inner.step, inner.observe
        self.__dict__.update(verbs)


LEVER, TIMEOUT = probe.Lever(), probe.Timeout()


def observing(change, inner=LEVER):
    return lambda: Broken(inner, observe=lambda state: change(inner.observe(state)))


def stepping(change, inner=LEVER):
    def step(state, action, key):
        after, outcome = inner.step(state, action, key)
        return change(after, outcome)

    return lambda: Broken(inner, step=step)


def claiming(inner=LEVER, **facts):
    return lambda: Broken(inner, spec=replace(inner.spec, **facts))


def outcome(**changes):
    return lambda after, given: (after, given._replace(**{name: change(given) for name, change in changes.items()}))


def forgetful():
    calls = iter(range(100))

    def reset(key):
        return LEVER.reset(key)._replace(secret=jnp.full(3, next(calls) % 3))

    return Broken(reset=reset)


def impure():
    chance = np.random.default_rng(0)

    def observe(state):
        seen = LEVER.observe(state)
        return seen._replace(obs=seen.obs * jnp.asarray(chance.random(seen.obs.shape, np.float32)))

    return Broken(observe=observe)


def branching():
    def step(state, action, key):
        return LEVER.step(state._replace(step=0 if action[0] > 1 else state.step), action, key)

    return Broken(step=step)


def batched(**verbs):
    def build():
        env = Broken()
        of_many = VmapBatch(LEVER)
        for name, change in verbs.items():
            setattr(of_many, name, change(getattr(of_many, name)))
        env.batch = lambda: of_many
        return env

    return build


def neighbourly(reset):
    """World 0 gets its neighbour's episode."""
    return lambda key: jax.tree.map(lambda x: x.at[0].set(x[1]), reset(key))


def crowded(step):
    """Each world's reward depends on its place."""

    def crowded_step(state, action, key):
        after, given = step(state, action, key)
        return after, given._replace(reward=given.reward + 1e-6 * jnp.arange(given.reward.shape[0]))

    return crowded_step


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (claiming(obs_dim=4), r"obs has shape \[3, 9\]; by the spec it must be \[3, 4\]"),
        (claiming(n_agents=2), "shape"),
        (claiming(state_dim=0), "spec.state_dim is 0"),
        (claiming(state_slots=((0, 3),)), "1 entries for 3 agents"),
        (claiming(state_slots=((0, 3), (3, 6), (6, 10))), "spec.state_slots .* outside a state of size 9"),
        (claiming(other_slots=((3, 6), (6, 10))), "spec.other_slots .* outside a state of size 9"),
        (claiming(other_slots=((3, 3),)), "spec.other_slots .* outside a state of size 9"),
        (claiming(sight=UnitSight((9.0,), (), 0, (0,))), "spec.sight.ranges has 1 entries for 3 agents"),
        (claiming(sight=UnitSight((9.0,) * 3, ((0, 10),), 0, (0,))), "spec.sight.slots lie outside an observation of size 9"),
        (claiming(sight=UnitSight((9.0,) * 3, ((0, 3),), 1, (1, 2, 3))), "or are too short"),
        (claiming(episode_limit=3), "goes on after spec.episode_limit = 3"),
        (observing(lambda seen: seen._replace(obs=seen.obs.astype(int))), "obs has type int32; it must be floating"),
        (observing(lambda seen: seen._replace(alive=seen.alive.astype(jnp.float32))), "alive has type float32; it must be bool"),
        (observing(lambda seen: seen._replace(state=seen.state / 0)), "state is not finite"),
        (observing(lambda seen: seen._replace(obs=seen.obs * 3)), "obs exceeds the unit scale"),
        (observing(lambda seen: seen._replace(avail_actions=jnp.zeros((3, 3), bool))), "no available action"),
        (observing(lambda seen: seen._replace(alive=jnp.array([True, False, True]))), "a dead agent has a choice"),
        (observing(tuple), "observe returns tuple"),
        (stepping(outcome(info=lambda given: {})), "lacks `won`"),
        (stepping(outcome(truncated=lambda given: given.terminated)), "terminated and truncated at once"),
        (stepping(outcome(terminated=lambda given: given.truncated)), "goes on after"),
        (stepping(outcome(info=lambda given: {"won": ~given.terminated})), "won before it has ended"),
        (stepping(outcome(reward=lambda given: given.reward * jnp.ones(3))), r"reward has shape \[3\]"),
        (stepping(lambda after, given: (after._replace(step=1.0 * after.step), given)), "changes its shape or types"),
        (forgetful, "not pure"),
        (impure, "not pure"),
        (branching, "cannot be compiled"),
        (batched(reset=neighbourly), r"batch\(\) plays another episode than single worlds do"),
        (batched(step=crowded), "depends on its place"),
        (batched(where=lambda where: lambda flag, new, old: new), "where does not choose"),
    ],
)
def test_a_broken_world_is_caught(build, message, key):
    with pytest.raises(ContractBroken, match=message) as error:
        check_env(build(), key)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, AssertionError)


def test_the_dead_may_only_do_nothing(key):
    def resurrected(seen):
        return seen._replace(avail_actions=jnp.ones_like(seen.avail_actions))

    with pytest.raises(ContractBroken, match=r"dead agent has a choice.* \(step 2 of episode 0\)"):
        check_env(observing(resurrected, TIMEOUT)(), key)
