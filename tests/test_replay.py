"""Buffers: what comes out is what went in, in one piece and equally often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.errors import BadSetting
from limbeck.replay import Dataset, Epochs, Latest, Replay
from limbeck.types import Decision, Segment

T, B, N, A = 4, 2, 2, 3


def segment(write: int, scale: float = 1.0) -> Segment:
    """The `write`-th segment of two streams: every number in it says which stream and which moment it belongs to."""
    moment = jnp.array(write * T + np.arange(T + 1)[:, None] + 1000 * np.arange(B))  # [T+1, B]
    value = moment.astype(jnp.float32) * scale
    decisions = Decision(
        obs=jnp.broadcast_to(value[..., None, None], (T + 1, B, N, 2)),
        state=jnp.broadcast_to(value[..., None], (T + 1, B, 3)),
        avail_actions=jnp.ones((T + 1, B, N, A), bool),
        alive=jnp.ones((T + 1, B, N), bool),
        last_action=jnp.broadcast_to((moment % A)[..., None] - 1, (T + 1, B, N)),
        is_first=moment % 3 == 0,
    )
    action = jnp.broadcast_to((moment[:-1] % A)[..., None], (T, B, N))
    carry0 = jnp.broadcast_to(value[0][:, None, None], (B, N, 5))
    return Segment(decisions, action, value[:-1], moment[:-1] % 5 == 0, jnp.ones((T, B)), carry0)


def filled(store, writes):
    buffer = store.init(segment(0))
    add = jax.jit(store.add)
    for write in range(writes):
        buffer = add(buffer, segment(write))
    return buffer


@pytest.mark.parametrize("writes", [1, 3, 4, 5, 7, 8, 9])
def test_every_sampled_segment_is_in_one_piece_before_at_and_after_the_wrap(writes, key):
    store = Replay(capacity=4 * B, batch=64)
    found = store.sample(filled(store, writes), key)
    first = np.asarray(found.reward[0])
    writes_seen, stream = (first % 1000) // T, first // 1000
    assert set(writes_seen) == set(range(max(0, writes - 4), writes)), "the last four writes, all of them, and nothing else"
    assert set(stream) == {0, 1}
    moments = first + np.arange(T + 1)[:, None]
    np.testing.assert_array_equal(found.reward, moments[:-1])
    np.testing.assert_array_equal(found.decisions.state[..., 0], moments)
    np.testing.assert_array_equal(found.decisions.obs[..., 1, 1], moments)
    np.testing.assert_array_equal(found.action[..., 0], moments[:-1] % A)
    np.testing.assert_array_equal(found.decisions.last_action[..., 0], moments % A - 1)
    np.testing.assert_array_equal(found.decisions.is_first, moments % 3 == 0)
    np.testing.assert_array_equal(found.terminated, moments[:-1] % 5 == 0)
    np.testing.assert_array_equal(found.carry0[:, 0, 0], first)


def test_shapes_and_types_come_back_as_they_were(key):
    store = Replay(capacity=8, batch=6, half=True)
    found = store.sample(filled(store, 2), key)
    given = segment(0)
    for a, b in zip(jax.tree.leaves(found._replace(carry0=())), jax.tree.leaves(given._replace(carry0=())), strict=True):
        assert a.shape == (b.shape[0], 6, *b.shape[2:]) and a.dtype == b.dtype
    assert found.carry0.shape == (6, N, 5) and found.carry0.dtype == jnp.float32


def test_all_segments_are_sampled_equally_often(key):
    store = Replay(capacity=8, batch=4000)
    first = np.asarray(store.sample(filled(store, 6), key).reward[0])
    _, counts = np.unique(first, return_counts=True)
    assert len(counts) == 8
    # 4,000 draws from 8: 500 each, standard deviation 21.
    assert abs(counts - 500).max() < 5 * 21


def test_capacity_is_kept_in_whole_writes():
    def slots(capacity):
        return jax.tree.leaves(Replay(capacity, 1).init(segment(0)).data)[0].shape[:2]

    assert slots(8) == (4, B)
    assert slots(9) == (4, B), "a write that does not fit whole is not kept"
    assert slots(1) == (1, B), "never less than one write"
    assert Replay(3, 1).add(Replay(3, 1).init(segment(0)), segment(0)).size == 1


def test_half_precision_keeps_what_lies_within_two_to_a_thousandth(key):
    store = Replay(capacity=2, batch=8, half=True)
    given = segment(0, scale=1e-3)
    buffer = store.add(store.init(given), given)
    assert buffer.data.decisions.obs.dtype == buffer.data.decisions.state.dtype == buffer.data.carry0.dtype == jnp.float16
    assert buffer.data.reward.dtype == jnp.float32, "rewards are few: they stay exact"
    found = store.sample(buffer, key)
    np.testing.assert_allclose(found.decisions.state[:-1, :, 0], found.reward, rtol=1e-3)
    np.testing.assert_allclose(found.carry0[:, 0, 0], found.reward[0], rtol=1e-3)
    assert set(np.asarray(found.reward[0])) <= set(np.asarray(given.reward[0])), "rewards bit for bit"


def test_a_share_of_a_device_is_an_even_part():
    assert Replay(100, 32, True).split(2) == Replay(50, 16, True)
    assert Latest().split(2) == Latest()
    assert Dataset(100, 32, 64).split(2) == Dataset(50, 16, 32)
    with pytest.raises(BadSetting, match=r"batch of 33 .* 2 devices"):
        Replay(100, 33).split(2)
    with pytest.raises(BadSetting, match="batch of 33"):
        Dataset(100, 33).split(2)


def test_latest_is_the_newest_segment_and_nothing_else(key):
    store = Latest()
    newest = store.sample(filled(store, 3), key)
    for a, b in zip(jax.tree.leaves(newest), jax.tree.leaves(segment(2)), strict=True):
        np.testing.assert_array_equal(a, b)


# -- rows ------------------------------------------------------------------------------------------------------------------


def rows(n, capacity, batch, key, at_once=20):
    """Training rows and held-out rows that were drawn from the numbers 0 to n - 1."""
    store = Dataset(capacity, batch, batch)
    buffer = store.init(jnp.zeros(at_once, jnp.int32))
    for start in range(0, n, at_once):
        buffer = store.add(buffer, start + jnp.arange(at_once))
    one, two = jax.random.split(key)
    return np.asarray(store.sample(buffer, one)), np.asarray(store.holdout(buffer, two))


def test_rows_held_out_are_never_trained_on(key):
    train, held_out = rows(100, 100, 5000, key)
    assert not set(train) & set(held_out)
    assert set(train) | set(held_out) == set(range(100))
    assert len(set(held_out)) == 20


def test_rows_not_yet_written_are_never_drawn(key):
    train, held_out = rows(40, 100, 5000, key)
    assert set(train) | set(held_out) == set(range(40))


def test_rows_are_drawn_equally_often(key):
    train, _ = rows(100, 100, 16_000, key)
    counts = np.bincount(train)
    assert abs(counts[counts > 0] - 200).max() < 5 * 14.2


@pytest.mark.parametrize("period", [2, 3, 4, 5, 8, 10])
def test_no_rhythm_in_the_rows_puts_a_whole_class_of_them_on_one_side(period, key):
    # Rows lie agent by agent within a world: with 5 agents, every fifth row is the same agent's.
    train, held_out = rows(2000, 2000, 20_000, key)
    for drawn in (train, held_out):
        share = np.bincount(np.unique(drawn) % period, minlength=period) / len(np.unique(drawn))
        assert abs(share - 1 / period).max() < 0.35 / period


def test_the_oldest_rows_give_way():
    store = Dataset(40, 8)
    buffer = store.init(jnp.zeros(20, jnp.int32))
    for start in (0, 20, 40):
        buffer = store.add(buffer, start + jnp.arange(20))
    assert set(np.asarray(buffer.data).reshape(-1)) == set(range(20, 60))


def test_an_epoch_sees_every_row_once_in_another_order_than_the_last(key):
    store = Epochs(minibatches=3)
    rows = {"row": jnp.arange(13)}
    buffer = store.add(store.init(rows), rows)
    draws = store.draws(buffer, jax.random.split(key, 6))
    assert draws.shape == (6, 4), "two epochs of three minibatches; one row of 13 is left out of each"
    seen = np.stack([store.sample(buffer, draw)["row"] for draw in draws]).reshape(2, 12)
    assert all(len(set(epoch)) == 12 for epoch in seen.tolist())
    assert not np.array_equal(*seen)


def test_too_few_rows_for_minibatches_are_refused():
    with pytest.raises(BadSetting, match="2 rows on a device make no 3 minibatches"):
        Epochs(minibatches=3).init({"row": jnp.arange(2)})
