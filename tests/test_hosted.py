"""Learning and evaluating in worker processes: the same segments, the same learner, and runs that survive their worlds."""

import json
import os
import signal
import sys
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from standin_smac import LENGTH

from limbeck import runs
from limbeck.cli import main
from limbeck.envs import registry
from limbeck.envs.workers import Workers
from limbeck.errors import Interrupted
from limbeck.evaluate import evaluate, evaluator
from limbeck.hosted import collect, compiled, shapes, start
from limbeck.hosted_learner import HostLearner, learner_for
from limbeck.learn import Learner
from limbeck.methods import bases, ptde
from limbeck.methods.q_learning import QSettings
from limbeck.store import RunFolder
from limbeck.train import train
from limbeck.types import LOCAL, Policy

SMALL = {"hidden": 16, "embed": 8, "hyper": 16, "segment": 8, "batch": 16, "buffer": 200, "eps_steps": 1500, "updates": 2}
B, T = 3, 11


def env_of(kind="Signals", **settings):
    return registry.make("starcraft/2m_vs_1z", game=f"standin_smac:{kind}", **settings)


ENV = env_of(timeout=2, workers=2)


def act_right(params, carry, decision, key, explore):
    """Follows the cue; the carry counts decisions since the last first one."""
    carry = jnp.where(decision.is_first[:, None], 0, carry) + 1
    choice = jnp.where(decision.obs[..., 4] > 0, 2, 3)
    return jnp.where(decision.alive, choice, 0), carry


@cache
def algorithm():
    return bases.build(ENV.spec, QSettings(mixer="qmix", **SMALL))


def collected(kill=None, cuts=(T,), **changes):
    """Some segments of B worlds; before segment 1 world `kill` is killed."""
    act, segments, stats = compiled(act_right), [], []
    with Workers(replace(ENV, **changes), B, 3) as workers:
        worlds = start(workers, jnp.zeros((B, 2), jnp.int32))
        for i, length in enumerate(cuts):
            if i == 1 and kill is not None:
                os.kill(workers.pids[kill], signal.SIGKILL)
            worlds, segment, some = collect(workers, act, (), worlds, jax.random.key(0), 0.0, length)
            segments.append(jax.tree.map(np.asarray, segment))
            stats.append(some)
        return segments, stats, list(workers.losses)


# -- segments --------------------------------------------------------------------------------------------------------------


def test_a_segment_is_aligned_as_those_of_jax_worlds_are():
    (segment,), (stats,), losses = collected()
    d = segment.decisions
    step = np.rint(d.state[..., 0] * 100).astype(int)
    assert (step == (np.arange(T + 1) % LENGTH)[:, None]).all() and (d.is_first == (step == 0)).all()
    assert (np.rint(d.state[..., 1] * 100) == (np.arange(T + 1) // LENGTH)[:, None]).all(), "the episode that a decision belongs to"
    assert (d.last_action[0] == -1).all() and (d.last_action[1:] == np.where(d.is_first[1:, :, None], -1, segment.action)).all()
    hot = np.eye(7)[segment.action].reshape(T, B, -1) * ~d.is_first[1:, :, None]
    assert (d.state[1:, :, -14:] == hot).all(), "the world's own memory of the last action agrees"
    assert (segment.terminated == d.is_first[1:]).all() and (segment.mask == 1).all()
    assert (np.take_along_axis(d.avail_actions[:-1], segment.action[..., None], -1)).all()
    assert (segment.reward == d.alive[:-1].sum(-1) / 2).all()
    assert tuple(stats) == (B * 2, B * (4 + 3), B * 2) and not losses


def test_segments_have_the_promised_shapes():
    (segment,), _, _ = collected()
    promised = shapes(ENV.spec, B, T, jax.ShapeDtypeStruct((B, 2), jnp.int32))
    pairs = zip(jax.tree.leaves(promised), jax.tree.leaves(segment), strict=True)
    assert [(a.shape, a.dtype) for a, _ in pairs] == [(b.shape, b.dtype) for b in jax.tree.leaves(segment)]


def test_cutting_the_stream_elsewhere_gives_the_same_stream():
    whole, parts = collected()[0], collected(cuts=(5, 6))[0]
    assert (parts[1].carry0 == 1).all(), "decision 5 is the second of its episode"
    for one, first, second in zip(
        *map(jax.tree.leaves, (whole[0]._replace(carry0=()), *(p._replace(carry0=()) for p in parts))), strict=True
    ):
        overlap = len(first) + len(second) - len(one)
        assert overlap in (0, 1) and np.array_equal(one, np.concatenate([first[: len(first) - overlap], second]))


@pytest.mark.parametrize(
    "changes", [{"parts": 1}, {"parts": 2}, {"per_process": 2}, {"per_process": 3}, {"parts": 1, "per_process": 2}]
)
def test_worlds_fall_into_parts_and_nothing_changes(changes):
    for one, other in zip(*map(jax.tree.leaves, (collected()[:2], collected(**changes)[:2])), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_two_decisions_have_the_same_chance():
    drawn = compiled(lambda params, carry, decision, key, explore: (jax.random.randint(key, (len(carry), 2), 2, 4), carry))
    with Workers(replace(ENV, parts=2), B, 3) as workers:
        worlds = start(workers, jnp.zeros((B, 2), jnp.int32))
        action = collect(workers, drawn, (), worlds, jax.random.key(0), 0.0, 40)[1].action[..., 0]
    apart = [(action[i:, a] != action[: 40 - i, b]).any() for i in range(3) for a in range(B) for b in range(B) if (i, a) != (0, b)]
    assert all(apart), "40 coins of one world are not those of another, nor the same a little later"


def test_a_killed_world_is_masked_and_no_episode_of_the_statistics():
    segments, stats, losses = collected(kill=1, cuts=(2, 8))
    segment = segments[1]
    assert losses == ["world 1: its process ended (SIGKILL)"]
    masked = np.zeros((8, B))
    masked[0, 1] = 1
    assert (segment.mask == 1 - masked).all() and not segment.terminated[0].any() and segment.reward[0].tolist() == [1, 0, 1]
    first = segment.decisions.is_first[:, 1]
    assert first.tolist() == [False, True] + [False] * 3 + [True] + [False] * 3
    assert stats[1].episodes == 5 and stats[1].won_sum == 5, "two whole ones elsewhere, one in the new process"


# -- learning --------------------------------------------------------------------------------------------------------------


def test_each_kind_of_world_has_its_learner():
    assert type(learner_for(registry.make("probe/lever"), algorithm(), 2, 1)) is Learner
    assert type(learner_for(ENV, algorithm(), 2, 1)) is HostLearner


@pytest.mark.long
def test_qmix_learns_through_the_door():
    trained = train(ENV, algorithm(), steps=8000, worlds=4, devices=2)
    losses = [row["loss"] for row in trained.rows]
    assert np.isfinite(losses).all() and trained.rows[-1]["lost_episodes"] == 0 and trained.rows[-1]["steps"] == 8000
    table = evaluate(ENV, {"qmix": trained}, episodes=20)
    assert table.rows[0]["win_rate"] > 0.8 and table.rows[0]["length"] == LENGTH, "random play wins one in a thousand"


@pytest.mark.long
def test_a_student_is_distilled_through_the_door():
    teacher = ptde.teacher(ENV.spec, ptde.TeacherSettings(latent=6, **SMALL))
    params = teacher.init(jax.random.key(0))
    student = ptde.student(ENV.spec, params, ptde.StudentSettings(updates=20, batch=8, rows=200, segment=4))
    trained = train(ENV, student, worlds=2, devices=1)
    assert np.isfinite(trained.rows[-1]["validation_loss"]) and trained.rows[-1]["updates"] == 20


def test_a_run_goes_on_when_worlds_crash_and_hang_and_counts_them(monkeypatch):
    started = []
    begin = Workers.__init__
    monkeypatch.setattr(Workers, "__init__", lambda self, *args: (begin(self, *args), started.append(self))[0])

    def disturb(row):
        if row["steps"] in (64, 128):
            os.kill(started[0].pids[0], signal.SIGKILL if row["steps"] == 64 else signal.SIGSTOP)

    trained = train(ENV, algorithm(), steps=320, worlds=4, devices=2, watch=disturb, evaluations=10, evaluate=lambda params: {})
    assert sum(row["lost_episodes"] for row in trained.rows) == 2 and trained.rows[-1]["steps"] == 320
    assert len(started) == 1 and not started[0].close.alive, "closed at the end"


def test_a_stopped_run_leaves_no_process_and_resumes_with_new_episodes(tmp_path, monkeypatch):
    started = []
    begin = Workers.__init__
    monkeypatch.setattr(Workers, "__init__", lambda self, *args: (begin(self, *args), started.append(self))[0])

    def stop(row):
        if row["steps"] >= 200 and not stopped:
            stopped.append(row["steps"])
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sys.modules["limbeck.train"], "STRETCH_SECONDS", 0.02)
    stopped = []
    config = runs.RunConfig(
        "qmix",
        ENV.spec.name,
        {"game": "standin_smac:Signals"},
        SMALL | {"mixer": "qmix"},
        steps=640,
        worlds=4,
        devices=2,
        evaluations=1,
    )
    with pytest.raises(Interrupted, match="all is saved, continue with: limbeck train --resume"):
        runs.start(config, tmp_path / "run", stop)
    assert not started[0].close.alive
    rows = RunFolder.open(tmp_path / "run").metrics()
    trained = runs.resume(tmp_path / "run")
    assert rows[-1]["steps"] == stopped[0] < 640 and trained.rows[: len(rows)] == rows and trained.rows[-1]["steps"] == 640
    assert started[0].seed != started[1].seed, "other episodes than those that were played already"


# -- evaluation ------------------------------------------------------------------------------------------------------------

RIGHT = Policy(act_right, LOCAL, lambda params: params, lambda n: jnp.zeros((n, 2), jnp.int32))


@pytest.mark.parametrize(("episodes", "per_process"), [(1, 1), (5, 1), (7, 2)])
def test_exactly_so_many_episodes_in_so_many_workers(episodes, per_process, key):
    played = evaluator(replace(ENV, per_process=per_process), RIGHT, episodes)((), key)
    assert [each.shape for each in played[:3]] == [(episodes,)] * 3 and played.lost == 0
    assert (played.lengths == LENGTH).all() and played.won.all() and set(played.returns) <= {3.0, 4.0}


def test_lost_episodes_are_played_again_and_counted(key):
    policy = evaluate(env_of("Wobbly", workers=2), {"right": (RIGHT, jnp.zeros(1))}, episodes=6, key=key)
    assert policy.rows[0]["lost_episodes"] == 2 and policy.rows[0]["win_rate"] == 1 and policy.rows[0]["length"] == LENGTH
    assert "lost" in str(policy)


def test_the_command_line_trains_and_reports_losses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
    monkeypatch.setenv("LIMBECK_STARCRAFT", "standin_smac:Wobbly")
    settings = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    quick = ["--worlds", "4", "--devices", "2", "--evaluations", "1", "--evaluation-episodes", "4"]
    main(["train", "qmix", "--env", "starcraft/2m_vs_1z", "--steps", "64", *settings, *quick, "--out", "run"])
    assert "4 episodes were lost with their worlds, which were started anew" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert sum(row["lost_episodes"] for row in rows) == 4 and rows[-1]["test_length"] == LENGTH
