"""Workers that act by themselves: the same segments, of the same policy, whoever computes its actions, and whoever is lost."""

import sys
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated
from jax import export
from test_host import SPEC, counter
from test_hosted import ENV, SMALL, B, T, act_right, algorithm, collected
from test_methods import ALIKE

import limbeck as lb
from limbeck import acting
from limbeck.envs.host import HostEnv
from limbeck.envs.tape import packed, unpacked, width
from limbeck.envs.worker import episode_seed
from limbeck.envs.workers import PATIENCE, Workers
from limbeck.errors import UnknownName, WorldFailed
from limbeck.evaluate import evaluate
from limbeck.hosted import collect, compiled, start
from limbeck.hosted_learner import HostLearner
from limbeck.methods import METHODS, mappo
from limbeck.train import train
from limbeck.types import PRIVILEGED, Decision

WORKERS = replace(ENV, acting="workers")
KNOWN = acting.Known((), jax.random.key(0), 0.0)


def played(env, n_worlds, act, carry, segments, ahead, length=T, seed=3):
    """Some segments, their statistics, and what was lost."""
    found = []
    with acting.start_workers(env, n_worlds, seed, act, KNOWN, carry, length, ahead) as workers:
        worlds = start(workers, carry)
        if ahead:
            acting.send(workers, KNOWN, worlds)
        for _ in range(segments):
            acting.send(workers, KNOWN, None if ahead else worlds)
            worlds, segment, stats = acting.collect(workers, worlds)
            found.append((jax.tree.map(np.asarray, segment), stats))
        return *map(list, zip(*found, strict=True)), list(workers.losses)


def act_counting(params, carry, decision, key, explore):
    """Two agents who always choose 1; the carry counts their decisions since the last first one."""
    carry = jnp.where(decision.is_first[:, None], 0, carry) + 1
    return jnp.ones((len(carry), 2), jnp.int32), carry


def counted(env, segments, ahead, length, n_worlds=2):
    return played(env, n_worlds, act_counting, jnp.zeros((n_worlds, 2), jnp.int32), segments, ahead, length, seed=5)


def mortal(timeout=20.0, per_process=1, **settings):
    return HostEnv(SPEC, "standin_counter:Mortal", settings, timeout=timeout, per_process=per_process)


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


# -- what is played ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("per_process", [1, 2])
def test_segments_are_those_that_the_learner_collects(ahead, per_process):
    expected = collected(cuts=(T,) * 3)
    assert_same(expected, played(replace(WORKERS, per_process=per_process), B, act_right, jnp.zeros((B, 2), jnp.int32), 3, ahead))


def test_worlds_are_busy_until_all_that_was_asked_for_is_played():
    carry = jnp.zeros((2, 2), jnp.int32)
    with acting.start_workers(mortal(slow=0.05), 2, 5, act_counting, KNOWN, carry, T, ahead=True) as workers:
        acting.send(workers, KNOWN, start(workers, carry))
        acting.send(workers, KNOWN)
        workers.first([slice(None)])
        assert [tape.made.tolist() for tape in workers.tapes] == [[T, T]] * 2


def test_chance_is_that_of_worlds_in_parts():
    def act(params, carry, decision, key, explore):
        return jnp.where(decision.alive, jax.random.randint(key, (len(carry), 2), 2, 4), 0), carry

    carry, found = jnp.zeros((B, 2)), []
    with Workers(ENV, B, 3) as workers:
        worlds = start(workers, carry)
        for _ in range(2):
            worlds, segment, _ = collect(workers, compiled(act), (), worlds, KNOWN.key, 0.0, T)
            found.append(segment)
    segments, _, _ = played(WORKERS, B, act, carry, 2, False)
    assert_same(found, segments)
    assert set(np.concatenate([each.action for each in found]).ravel()) == {0, 2, 3}


def test_a_packed_decision_comes_back_as_it_was():
    sizes, chance = ENV.sizes(3), np.random.default_rng(0)
    fields = {
        "obs": chance.normal(size=(5, 3, 2, sizes.obs_dim)).astype(np.float32),
        "state": chance.normal(size=(5, 3, sizes.state_dim)).astype(np.float32),
        "avail_actions": chance.random((5, 3, 2, sizes.n_actions)) < 0.5,
        "alive": chance.random((5, 3, 2)) < 0.5,
        "last_action": chance.integers(-1, sizes.n_actions, (5, 3, 2)).astype(np.int32),
        "is_first": chance.random((5, 3)) < 0.5,
    }
    rows = np.zeros((5, 3, width(sizes)), np.float32)
    packed(sizes, fields, rows)
    for found in (unpacked(sizes, rows), jax.jit(lambda rows: unpacked(sizes, rows))(rows)):
        assert_same(fields, found)
        assert all(found[name].dtype == value.dtype for name, value in fields.items())


@pytest.mark.parametrize("name", gated(ALIKE, "qmix", "qatten", "mappo", "ptde", "copa", "ddn"))
def test_every_method_can_act_elsewhere(name, key):
    host, n = counter(), 2
    known = METHODS[name].settings
    small = {setting: value for setting, value in (SMALL | {"latent": 6}).items() if hasattr(known, setting)}
    spec = replace(SPEC, state_slots=((0, 1), (1, 2)))
    built = METHODS[name].build(spec, replace(known, **small))
    told = acting.Known(built.init(key), key, built.explore(jnp.int32(0)))
    carry, sizes = built.init_carry(n), host.sizes(n)
    rows = np.random.default_rng(0).random((n, width(sizes))).astype(np.float32)
    packed(sizes, {"avail_actions": np.ones((n, 2, 2), bool), "alive": np.ones((n, 2), bool), "is_first": np.ones(n, bool)}, rows)
    call = export.deserialize(bytearray(acting.program(host, built.act, told, carry, n, stride=1))).call
    action, (*leaves, number) = call(told.constants, [*jax.tree.leaves(carry), jnp.int32(4)], rows)
    decision = Decision(**unpacked(sizes, jnp.array(rows))).within(PRIVILEGED)
    expected, after = built.act(told.params, carry, decision, jax.random.fold_in(key, 4), told.explore)
    assert (action == expected).all() and number == 5
    for a, b in zip(leaves, jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# -- losses ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("length", [7, 4])  # world 1 dies at step 4: within a segment, and at the first step of one
def test_a_process_that_dies_ends_its_worlds_episodes_and_another_goes_on(ahead, length):
    segments, stats, losses = counted(mortal(deadly=[episode_seed(5, 1, 1)]), 3, ahead, length)
    assert losses == ["world 1: its process ended (exit code 1)"]
    reward, mask, first = map(np.concatenate, zip(*((s.reward, s.mask, s.decisions.is_first[1:]) for s in segments), strict=True))
    assert np.argwhere(mask[:9] == 0).tolist() == [[4, 1]] and reward[4].tolist() == [2, 0] and first[4].tolist() == [False, True]
    shown = np.concatenate([s.decisions.obs[1:, 1, 0, 0] for s in segments])
    assert shown[:8].tolist() == [1, 2, 0, 1, 0, 1, 2, 0], "a first decision after the loss, and the episode after it"
    assert sum(s.episodes for s in stats) == first.sum() - 1, "the lost one is none"
    for before, after in pairwise(segments):
        assert_same(jax.tree.map(lambda x: x[-1], before.decisions), jax.tree.map(lambda x: x[0], after.decisions))
        here = after.decisions.is_first[0]
        assert (after.carry0[~here] == after.decisions.obs[0, ~here, :, 0]).all(), "as many decisions as the world shows steps"


def test_worlds_of_one_process_are_lost_together():
    segments, _, losses = counted(mortal(deadly=[episode_seed(5, 1, 1)], per_process=2), 1, False, 7, n_worlds=3)
    assert losses == ["world 0: its process ended (exit code 1)", "world 1: its process ended (exit code 1)"]
    assert np.argwhere(segments[0].mask == 0).tolist() == [[4, 0], [4, 1]]


def test_who_hangs_is_lost_and_who_is_only_slow_is_not():
    segments, _, losses = counted(mortal(hanging=[episode_seed(5, 0, 1)], timeout=1), 1, False, 7)
    assert losses == ["world 0: it gave no answer for 1 s"] and np.argwhere(segments[0].mask == 0).tolist() == [[4, 0]]
    assert not counted(mortal(slow=0.15, timeout=0.8), 1, False, 11)[2], "eleven steps take 1.6 s, but each of them 0.15"


def test_who_dies_again_and_again_is_given_up_with_the_reason():
    deadly = [episode_seed(5, 0, k) for k in range(20)]
    with pytest.raises(WorldFailed, match=rf"world 0 was lost {PATIENCE} times in a row.*exit code 1"):
        counted(mortal(deadly=deadly), 1, False, 30)


# -- learning ----------------------------------------------------------------------------------------------------------------


def test_only_the_learner_or_the_workers_act():
    with pytest.raises(UnknownName, match="unknown acting 'worker'; did you mean 'workers'"):
        lb.make("starcraft/2m_vs_1z", game="standin_smac:Signals", acting="worker")


def test_mappo_learns_the_same_whoever_acts(monkeypatch):
    monkeypatch.setattr(sys.modules["limbeck.train"], "STRETCH_SECONDS", 0.0)  # a row for every iteration, however fast they are
    settings = mappo.MAPPOSettings(hidden=8, segment=16, chunk=4, epochs=1, minibatches=1)
    rows = [train(env, mappo.build(ENV.spec, settings), steps=256, worlds=4, devices=1).rows for env in (ENV, WORKERS)]
    assert [len(each) for each in rows] == [4, 4]
    for name in ("loss", "train_return", "entropy", "episodes"):
        np.testing.assert_allclose(*([row[name] for row in some if name in row] for some in rows), rtol=1e-4)


def test_qmix_learns_from_workers_that_are_a_segment_ahead():
    trained = train(WORKERS, algorithm(), steps=8000, worlds=4, devices=2)
    assert np.isfinite([row["loss"] for row in trained.rows]).all() and trained.rows[-1]["lost_episodes"] == 0
    assert evaluate(WORKERS, {"qmix": trained}, episodes=20).rows[0]["win_rate"] > 0.8


def test_who_is_ahead_acts_with_the_parameters_before_the_last_updates(key):
    """Segment k is played with what was learned from those up to k - 2."""

    def tell(params, carry, decision, key, explore):
        return decision.avail_actions.argmax(-1), jnp.full_like(carry, explore)

    told = replace(algorithm(), explore=lambda steps: steps.astype(jnp.float32), act=tell)
    learner = HostLearner(WORKERS, told, worlds=2, devices=1)
    try:
        state, seen = learner.init(key), []
        for _ in range(4):
            segment, _ = learner._segment(state)
            seen.append(int(segment.carry0[0, 0, 0]))
            state = state._replace(steps=state.steps + 1)
        assert seen[1:] == [0, 0, 1], "the steps that were known when the segment before was played"
    finally:
        learner.close()
