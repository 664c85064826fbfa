"""Learning to rank: the measures against slow and obvious ones, files and everything wrong with them, lists, the world."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck import train
from limbeck.cli import main
from limbeck.envs import registry
from limbeck.envs.base import held_out
from limbeck.envs.check import check_env
from limbeck.envs.ranking import Ranking, files, metrics
from limbeck.envs.ranking.generate import generate, write
from limbeck.envs.ranking.judge import judge, measure, scores_of
from limbeck.envs.ranking.lists import Lists, Scale, deal, sample
from limbeck.envs.ranking.svmlight import Documents
from limbeck.errors import BadSetting, LimbeckError, UnknownName
from limbeck.evaluate import evaluate
from limbeck.methods import METHODS
from limbeck.nets.greedy import greedy
from limbeck.types import LOCAL, Policy

NAME = "ranking/synthetic"

# -- measures --------------------------------------------------------------------------------------------------------------


def slowly(scores, labels, present, of_order):
    """The mean of a measure over all orders of the documents in which scores do not rise."""
    there = np.flatnonzero(present)
    orders = [o for o in itertools.permutations(there) if (np.diff(np.asarray(scores)[list(o)]) <= 0).all()]
    return np.mean([of_order([int(labels[i]) for i in order]) for order in orders])


def slow_dcg(labels, k=None, gain=lambda label: 2**label - 1):
    return sum(gain(label) / np.log2(place + 2) for place, label in enumerate(labels[:k]))


def slow_err(labels, best):
    total, reached = 0.0, 1.0
    for place, label in enumerate(labels, start=1):
        stop = (2**label - 1) / 2**best
        total, reached = total + reached * stop / place, reached * (1 - stop)
    return total


def slow_mrr(labels):
    return next((1 / place for place, label in enumerate(labels, start=1) if label), 0.0)


def cases(count=40, documents=6):
    chance = np.random.default_rng(3)
    for _ in range(count):
        present = chance.random(documents) < 0.8
        labels = np.where(present, chance.integers(0, 4, documents), 0)
        yield chance.integers(0, 4, documents), labels.astype(np.int32), present


def test_measures_are_those_that_are_worked_out_slowly():
    quick = {
        name: jax.jit(each)
        for name, each in {
            "dcg": metrics.dcg,
            "dcg@3": lambda *given: metrics.dcg(*given, k=3),
            "linear": lambda *given: metrics.dcg(*given, k=4, gain="linear"),
            "mrr": metrics.mrr,
            "err": lambda *given: metrics.err(*given, best=3),
        }.items()
    }
    slow = {
        "dcg": slow_dcg,
        "dcg@3": lambda labels: slow_dcg(labels, 3),
        "linear": lambda labels: slow_dcg(labels, 4, float),
        "mrr": slow_mrr,
        "err": lambda labels: slow_err(labels, 3),
    }
    for case in cases():
        for name, each in quick.items():
            assert float(each(*case)) == pytest.approx(slowly(*case, slow[name]), abs=1e-5), (name, case)


def test_measures_by_hand():
    labels, scores = jnp.array([0, 2, 1]), jnp.array([3, 2, 1])  # the ranking 0, 2, 1
    best = {"k": None, "gain": "exponential"}
    by_hand = {
        (3 / np.log2(3) + 1 / 2) / (3 + 1 / np.log2(3)): (metrics.ndcg, best),
        (2 / np.log2(3) + 1 / 2) / (2 + 1 / np.log2(3)): (metrics.ndcg, best | {"gain": "linear"}),
        0.0: (metrics.ndcg, best | {"k": 1}),
        1 / 2: (metrics.mrr, {}),
        1 / 3 * 1 / 4 * 1 / 4 + 3 / 4 / 2: (metrics.err, {"best": 2}),
        1 / 2 + 1e-9: (metrics.mrr, {"relevant": 2}),
    }
    for value, (each, settings) in by_hand.items():
        assert float(jax.jit(partial(each, **settings))(scores, labels)) == pytest.approx(value, abs=1e-6)
    alike = float(jax.jit(metrics.mrr)(jnp.zeros(3), labels))  # all orders of one bad document and two good ones
    assert alike == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_ndcg_reaches_its_bounds():
    quick = jax.jit(metrics.ndcg)
    for _, labels, present in cases():
        assert float(quick(labels, labels, present)) == pytest.approx(float(labels.any()))
        assert 0 <= float(quick(-labels, labels, present)) <= 1


def test_an_unknown_gain_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'linear'"):
        metrics.dcg(jnp.zeros(2), jnp.zeros(2, int), gain="linea")


# -- files -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "limbeck" / "ranking"


def put(folder, text, name="train.txt"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_is_read_as_it_stands(tmp_path, cache):
    text = "2 qid:10 1:0.5 3:-1e-2 # docid = GX00\n\n0\tqid:10 2:NULL 3:1.797693134862316E308\r\n# nothing here\n1 qid:7 1:4"
    found = files.read(put(tmp_path, text))
    assert found.queries.tolist() == [10, 10, 7] and found.labels.tolist() == [2, 0, 1]
    np.testing.assert_allclose(found.features, [[0.5, 0, -0.01], [0, np.nan, np.nan], [4, 0, 0]])


def test_what_is_written_is_read_again(tmp_path, cache, monkeypatch):
    made = generate(50, 7, 9, 5, 0.1, 0.5, seed=1)
    made.features[3, 4] = np.nan
    write(tmp_path / "all.txt", made)
    stands = np.nan_to_num(made.features)  # what is left out is 0
    for chunk in (files.CHUNK, 1000):  # at once, and in stretches
        monkeypatch.setattr(files, "CHUNK", chunk)
        found = files.parse(tmp_path / "all.txt")
        assert (found.queries == made.queries).all() and (found.labels == made.labels).all()
        np.testing.assert_array_equal(found.features, stands)


WRONG = {
    "no label": ("qid:1 1:2", "it has no label"),
    "label is a word": ("good qid:1 1:2", "its label 'good' is no number"),
    "label is half": ("1.5 qid:1 1:2", "its label is no whole number from 0 to 4"),
    "label is too high": ("5 qid:1 1:2", "its label is no whole number from 0 to 4"),
    "label is negative": ("-1 qid:1 1:2", "its label is no whole number"),
    "no query": ("1 1:2 2:3", "after the label must come qid:NUMBER"),
    "nothing but a label": ("1", "after the label must come qid:NUMBER"),
    "query is a word": ("1 qid:x 1:2", "its query 'qid:x' is no number"),
    "query is half": ("1 qid:1.5 1:2", "its query is no whole number"),
    "no colon": ("1 qid:1 1:2 3", "'3' is no feature, NUMBER:VALUE"),
    "no value": ("1 qid:1 1: 2:3", "'1:' is no feature"),
    "two colons": ("1 qid:1 1:2:3", "'1:2:3' is no feature"),
    "value is a word": ("1 qid:1 1:2 2:x", "'2:x' is no feature"),
    "value is not a number": ("1 qid:1 1:nan", "'1:nan' is no feature"),
    "value is two numbers": ("1 qid:1 1:1.2.3", "'1:1.2.3' is no feature"),
    "value is infinite": ("1 qid:1 1:inf", "'1:inf' is no feature"),
    "feature 0": ("1 qid:1 0:2", "a feature's number is not from 1 to"),
    "feature is half": ("1 qid:1 1.5:2", "a feature's number is not from 1 to"),
    "features out of order": ("1 qid:1 2:2 1:1", "its features are not in the order of their numbers"),
    "a feature twice": ("1 qid:1 2:2 2:1", "its features are not in the order"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_with_a_line_is_said_in_one(fault, tmp_path, cache):
    line, says = WRONG[fault]
    path = put(tmp_path, f"0 qid:1 1:1 # qid:\n\n{line}\n1 qid:1 1:1\n")
    with pytest.raises(files.BadData) as caught:
        files.read(path)
    assert str(caught.value).startswith(f"{path}:3: {says}") and "\n" not in str(caught.value)


def test_known_data_sets_have_their_number_of_features(tmp_path, cache):
    whole = " ".join(f"{i}:1" for i in range(1, 47))
    assert files.read(put(tmp_path, f"2 qid:1 {whole}\n"), "letor").features.shape == (1, 46)
    with pytest.raises(files.BadData, match=r"train.txt:2: a feature's number is not from 1 to 46"):
        files.read(put(tmp_path, f"2 qid:1 {whole}\n1 qid:1 {whole} 47:1\n"), "letor")
    with pytest.raises(files.BadData, match=r"train.txt:1: it has not all 136 features"):
        files.read(put(tmp_path, f"2 qid:1 {whole}\n"), "mslr")
    with pytest.raises(files.BadData, match="whole number from 0 to 2"):
        files.read(put(tmp_path, f"3 qid:1 {whole}\n"), "letor")
    assert files.read(put(tmp_path, "4 qid:1 519:0.5\n"), "yahoo").features.shape == (1, 700)
    with pytest.raises(UnknownName, match="did you mean 'istella'"):
        files.read(tmp_path / "train.txt", "istela")


def test_other_faults_of_files(tmp_path, cache):
    with pytest.raises(files.BadData, match=r"cannot read .*: No such file"):
        files.read(tmp_path / "nowhere.txt")
    with pytest.raises(files.BadData, match="holds no documents"):
        files.read(put(tmp_path, "# nothing\n"))
    with pytest.raises(files.BadData, match="the documents of query 1 are not one after the other"):
        files.read(put(tmp_path, "1 qid:1 1:1\n0 qid:2 1:1\n0 qid:1 1:1\n"))
    put(tmp_path, "1 qid:1 1:1\n")
    with pytest.raises(files.BadData, match=r"there is no validation file: neither .*vali.txt nor"):
        files.read_splits(tmp_path)
    put(tmp_path, "1 qid:3 1:1\n", "vali.txt")
    put(tmp_path, "1 qid:1 1:1\n", "test.txt")
    with pytest.raises(files.BadData, match=r"query 1 is in .*train.txt and in .*test.txt: it cannot be held out"):
        files.read_splits(tmp_path)


def test_the_cache_is_as_new_as_the_file(tmp_path, cache, monkeypatch):
    path = put(tmp_path, "1 qid:1 1:1\n")
    first = files.read(path)
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(files, "parse", None)
        assert files.read(path).features.tolist() == first.features.tolist()
    put(tmp_path, "1 qid:1 1:25\n")
    assert files.read(path).features.item() == 25
    kept.write_bytes(kept.read_bytes()[:100])  # damaged
    assert files.read(path).features.item() == 25
    assert list(cache.iterdir()) == [kept]
    with pytest.raises(LimbeckError, match=r"cannot keep what was read in .*; set XDG_CACHE_HOME"):
        files.read(path, cache=path / "no folder")


# -- lists -----------------------------------------------------------------------------------------------------------------


def documents(sizes, features=3, seed=0):
    """Queries 10, 11, ... of these sizes; feature 0 tells which document it is."""
    chance = np.random.default_rng(seed)
    queries = np.repeat(10 + np.arange(len(sizes)), sizes)
    seen = chance.normal(size=(len(queries), features)).astype(np.float32)
    seen[:, 0] = np.arange(len(queries))
    return Documents(queries, (np.arange(len(queries)) % 3).astype(np.int32), seen)


AS_IT_IS = Scale(np.zeros(3, np.float32), np.full(3, 4.0, np.float32))


def test_long_queries_make_several_lists_and_short_ones_are_padded():
    found = documents([3, 9, 4, 2])
    lists = deal(found, AS_IT_IS, 4, seed=0)
    assert sorted(zip(lists.queries.tolist(), lists.present.sum(1).tolist(), strict=True)) == [
        *[(10, 3), (11, 4), (11, 4)],  # of nine, one is left alone
        *[(12, 4), (13, 2)],
    ]
    assert (lists.features[~lists.present] == 0).all() and (lists.labels[~lists.present] == 0).all()
    which = np.expm1(2 * lists.features[..., 0] * 4).round().astype(int)[lists.present]
    assert len(set(which)) == len(which) == 17
    assert (lists.labels[lists.present] == which % 3).all()
    assert (np.repeat(lists.queries, 4)[lists.present.ravel()] == found.queries[which]).all()


def test_lists_in_which_nothing_can_be_ranked_are_left_out():
    found = documents([3, 3, 3])._replace(labels=np.array([0, 0, 0, 1, 1, 1, 0, 1, 0], np.int32))
    assert deal(found, AS_IT_IS, 4, seed=0).queries.tolist() == [12]
    with pytest.raises(files.BadData, match="no query has two documents"):
        deal(found.part(0, 6), AS_IT_IS, 4, seed=0)


def test_features_are_normalised_over_what_is_known():
    found = np.array([[0, 5, np.nan], [1, 5, np.nan], [np.e - 1, 5, np.nan], [np.nan, 5, np.nan]], np.float32)
    scaled = Scale.of(found)(found)
    x = np.log1p([0, 1, np.e - 1])
    np.testing.assert_allclose(scaled[:3, 0], (x - x.mean()) / x.std() / 2, atol=1e-6)
    assert (scaled[3] == 0).all() and (scaled[:, 1:] == 0).all()
    assert Scale.of(found)(np.array([[1e20, 7, 7]], np.float32)).tolist() == [[2, 0, 0]]


def test_a_sample_of_lists_is_the_same_again():
    lists = deal(documents([3] * 20), AS_IT_IS, 4, seed=0)
    assert sample(lists, 7, 1).queries.tolist() == sample(lists, 7, 1).queries.tolist() != sample(lists, 7, 2).queries.tolist()
    assert len(sample(lists, 7, 1).queries) == 7 and sample(lists, None, 1) is sample(lists, 20, 1) is lists


# -- the world -------------------------------------------------------------------------------------------------------------


def mixed(chance=np.random.default_rng(5)):  # noqa: B008
    """A world with lists of two to six documents."""
    found = documents(chance.integers(2, 7, 30).tolist())
    return Ranking("ranking/mixed", dict.fromkeys(("train", "validation", "test"), deal(found, Scale.of(found.features), 6, 0)))


def test_the_contract_holds_with_short_lists(key):
    check_env(mixed(), key, worlds=16)


def test_who_has_no_document_does_nothing():
    env = mixed()
    index = int(np.argmin(env.lists.present.sum(1)))
    present = env.lists.present[index]
    state = type(env.reset(jax.random.key(0)))(jnp.int32(index))
    seen = env.observe(state)
    assert (~present).any() and seen.alive.tolist() == present.tolist()
    assert seen.avail_actions.tolist() == [[True] + [there] * 4 for there in present.tolist()]
    whole = np.asarray(seen.state).reshape(6, -1)
    assert (whole[~present] == 0).all() and whole[:, 0].tolist() == present.tolist()
    np.testing.assert_array_equal(whole[:, 1:], seen.obs)
    labels = jnp.asarray(env.lists.labels[index])
    for others in (0, 4):  # whatever they say, they are no part of the ranking
        _, outcome = env.step(state, jnp.where(present, labels, others), jax.random.key(0))
        assert float(outcome.reward) == pytest.approx(1) and bool(outcome.terminated) and not bool(outcome.truncated)


def test_to_permute_documents_permutes_everything(key):
    env = registry.make(NAME)
    order = np.random.default_rng(0).permutation(10)
    turned = {split: Lists(each.queries, *(x[:, order] for x in each[1:])) for split, each in env.splits.items()}
    other = Ranking("ranking/turned", turned)
    state, action = env.reset(key), jax.random.randint(key, (10,), 0, 5)
    here, there = env.observe(state), other.observe(state)
    np.testing.assert_array_equal(here.obs[order], there.obs)
    np.testing.assert_array_equal(here.state.reshape(10, -1)[order], there.state.reshape(10, -1))
    rewards = [world.step(state, given, key)[1].reward for world, given in ((env, action), (other, action[order]))]
    assert float(rewards[0]) == pytest.approx(float(rewards[1]), abs=1e-6) and 0 < float(rewards[0]) < 1


def test_splits_are_disjoint_and_the_same_again():
    env, again = registry.make(NAME, documents=6, seed=3), Ranking("x", registry.make(NAME, documents=6, seed=3).splits)
    queries = [set(lists.queries) for lists in env.splits.values()]
    assert not (queries[0] & queries[1] or queries[0] & queries[2] or queries[1] & queries[2])
    seen = [lists.features[..., 0].ravel() for lists in env.splits.values()]
    assert len(np.unique(np.concatenate(seen))) > 0.99 * sum(map(len, seen))
    assert all((x == y).all() for x, y in zip(env.lists, again.lists, strict=True))
    assert (env.lists.features[0] != registry.make(NAME, documents=6, seed=4).lists.features[0]).any()


def always(score):
    return Policy(
        lambda params, carry, decision, key, explore: (jnp.full(decision.alive.shape, score), carry),
        LOCAL,
        lambda params: {},
        lambda worlds: (),
    )


def test_results_are_about_queries_that_are_held_out():
    train_only = registry.make(NAME)
    marked = {split: lists._replace(labels=lists.labels * (split != "train")) for split, lists in train_only.splits.items()}
    env = Ranking("ranking/marked", marked)  # only what is held out has anything relevant
    (row,) = evaluate(env, {"all alike": (always(1), {})}, 64).rows
    assert row["return"] > 0.4
    assert held_out(env).split == "test" and held_out(env, "validation").split == held_out(held_out(env, "validation")).split
    test = env.held_out("test").lists
    assert judge(env, always(1), {}) == pytest.approx(measure(np.zeros(test.labels.shape), test))
    probe = registry.make("probe/matrix")
    assert held_out(probe) is probe


def test_nobody_learns_from_what_is_held_out():
    env = registry.make(NAME, split="test")
    with pytest.raises(BadSetting, match="nobody learns from the test data of ranking/synthetic"):
        train(env, METHODS["vdn"].build(env.spec, METHODS["vdn"].settings), steps=10)


def test_scores_are_given_to_every_list_once():
    env, up = mixed().held_out("test"), jnp.arange(-2, 3)[None, None]
    first = Policy(
        lambda params, carry, decision, key, explore: (greedy(decision.obs[..., :1] * up, decision.avail_actions), carry),
        LOCAL,
        lambda params: {},
        lambda worlds: (),
    )
    expected = np.where(env.lists.present, np.where(env.lists.features[..., 0] > 0, 4, 0), 0)
    np.testing.assert_array_equal(scores_of(env, first, {}), expected)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"documents": 1}, "documents is a whole number from 2, not 1"),
        ({"features": 4}, "features is a whole number from 5, not 4"),
        ({"levels": 1}, "levels is a whole number from 2"),
        ({"scores": 1}, "scores is a whole number from 2"),
        ({"cutoff": 0}, "cutoff is a whole number from 1"),
        ({"noise": -1.0}, "noise is a number from 0, not -1"),
        ({"noise": float("nan")}, "noise is a number from 0"),
        ({"noise": "much"}, "ranking/synthetic with"),
        ({"dependence": 1.5}, "dependence is a number from 0 to 1, not 1.5"),
        ({"seed": -1}, "seed is a whole number from 0"),
    ],
)
def test_impossible_settings_are_one_line(settings, says):
    with pytest.raises(BadSetting, match=says) as caught:
        registry.make(NAME, **settings)
    assert "\n" not in str(caught.value)


def test_unknown_splits_and_gains_are_named():
    with pytest.raises(UnknownName, match="did you mean 'validation'"):
        registry.make(NAME, split="validate")
    with pytest.raises(UnknownName, match="unknown gain"):
        registry.make(NAME, gain="square")


def test_files_make_a_world(tmp_path, cache, key, capsys):
    made = generate(60, 12, 8, 5, 0.1, 0.7, seed=2)
    for i, name in enumerate(("set.train.txt", "set.valid.txt", "set.test.txt")):
        write(tmp_path / name, made.part(i * 240, (i + 1) * 240))
    path = str(tmp_path / "set")
    env = registry.make("ranking/files", path=path, documents=5, lists=30)
    assert (env.spec.n_agents, env.spec.obs_dim, env.spec.state_dim) == (5, 8, 45)
    assert len(env.lists.queries) == 30 and set(held_out(env).lists.queries) <= set(range(41, 61))
    check_env(env, key)
    with pytest.raises(BadSetting, match="ranking/files needs the setting path"):
        registry.make("ranking/files")
    with pytest.raises(BadSetting, match="lists is a whole number from 1, not 0"):
        registry.make("ranking/files", path=path, lists=0)
    write(tmp_path / "set.train.txt", made.part(0, 480))
    with pytest.raises(files.BadData, match="it cannot be held out"):
        registry.make("ranking/files", path=path, documents=5, lists=30)
    main(["list"])
    assert "data: path" in capsys.readouterr().out


# -- learning --------------------------------------------------------------------------------------------------------------


def reading_quality(env):
    """NDCG of who ranks by a made-up document's quality alone."""
    lists = env.held_out("test").lists
    return measure(lists.features[..., 0], lists)["NDCG@10"]


def test_dependence_is_what_one_document_does_not_tell():
    qualities = [reading_quality(registry.make(NAME, dependence=share, noise=0.0)) for share in (0.0, 0.5, 1.0)]
    assert qualities[0] > 0.999 and qualities[0] - 0.1 > qualities[1] > qualities[2] + 0.1


def test_a_local_learner_learns_to_rank():
    env = registry.make(NAME, dependence=0.2, documents=5, scores=3)
    settings = {"hidden": 16, "segment": 1, "batch": 64, "buffer": 4096, "updates": 1, "eps_steps": 5000, "lr": 5e-3}
    method = METHODS["vdn"]
    trained = train(env, method.build(env.spec, dataclasses.replace(method.settings, **settings)), steps=10_000, worlds=64)
    guess = judge(env, always(1), {})["NDCG@5"]
    assert judge(env, *trained.policy())["NDCG@5"] > guess + 0.1
