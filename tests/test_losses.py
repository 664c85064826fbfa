"""TD(lambda) by hand, at every kind of border; then against a plain loop on random data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.losses import clipped_value_loss, entropy, gae, huber, masked_mean, ppo_clip, standardised, td_lambda

REWARD = [1.0, 2.0, 3.0]
VALUE_NEXT = [10.0, 20.0, 30.0]
GAMMA = 0.5


def returns(reward, value_next, terminated, mask, gamma, lambda_):
    arrays = (
        jnp.array(reward, jnp.float32),
        jnp.array(value_next, jnp.float32),
        jnp.array(terminated, bool),
        jnp.array(mask, jnp.float32),
    )
    return np.asarray(td_lambda(*arrays, gamma, lambda_))


def test_lambda_0_is_the_one_step_target():
    # r_t + v_{t+1} / 2
    np.testing.assert_allclose(returns(REWARD, VALUE_NEXT, [0, 0, 0], [1, 1, 1], GAMMA, 0.0), [6, 12, 18])


def test_lambda_1_is_the_discounted_sum_with_one_bootstrap_at_the_end():
    # G_2 = 3 + 15 = 18;  G_1 = 2 + 9 = 11;  G_0 = 1 + 5.5
    np.testing.assert_allclose(returns(REWARD, VALUE_NEXT, [0, 0, 0], [1, 1, 1], GAMMA, 1.0), [6.5, 11, 18])


def test_between_them_each_step_mixes_value_and_return():
    # G_2 = 3 + 15 = 18;  G_1 = 2 + (10 + 9) / 2 = 11.5;  G_0 = 1 + (5 + 5.75) / 2 = 6.375
    np.testing.assert_allclose(returns(REWARD, VALUE_NEXT, [0, 0, 0], [1, 1, 1], GAMMA, 0.5), [6.375, 11.5, 18])


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_nothing_beyond_a_termination_counts(lambda_):
    one, two = ([5.0, 1000.0, 7.0, 8.0], [5.0, -1000.0, -7.0, 8.0])
    first = returns([1, 2, 3, 4], one, [0, 1, 0, 0], [1, 1, 1, 1], GAMMA, lambda_)
    second = returns([1, 2, -3, -4], two, [0, 1, 0, 0], [1, 1, 1, 1], GAMMA, lambda_)
    assert first[1] == 2.0, "the last reward and no value at all"
    np.testing.assert_array_equal(first[:2], second[:2])
    assert first[2] != second[2], "the episode behind the border has its own returns"


def test_an_episode_border_in_the_middle_by_hand():
    # G_3 = 4 + 20 = 24;  G_2 = 3 + (15 + 12) / 2 = 16.5;  G_1 = 2;  G_0 = 1 + (5 + 1) / 2 = 4
    found = returns([1, 2, 3, 4], [10, 20, 30, 40], [0, 1, 0, 0], [1, 1, 1, 1], GAMMA, 0.5)
    np.testing.assert_allclose(found, [4, 2, 16.5, 24])


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_the_value_stands_in_for_what_lies_beyond_a_truncation(lambda_):
    # Transition 1 is cut: G_0 = r_0 + v_1 / 2 whatever lambda is, and whatever stands at 1, 2 and 3.
    found = returns([1, 2, 3, 4], [10, 20, 30, 40], [0, 0, 0, 0], [1, 0, 1, 1], GAMMA, lambda_)
    other = returns([1, 99, -3, -4], [10, -99, 5, 6], [0, 0, 0, 0], [1, 0, 1, 1], GAMMA, lambda_)
    assert found[0] == other[0] == 6.0
    assert found[3] == 4 + 20
    assert found[2] == pytest.approx(3 + 0.5 * ((1 - lambda_) * 30 + lambda_ * 24))


def test_axes_behind_time_are_independent(key):
    reward, value = jax.random.normal(key, (2, 5, 3, 2))
    terminated = jnp.zeros((5, 3, 2), bool).at[2, 1, 0].set(True)
    together = td_lambda(reward, value, terminated, jnp.ones((5, 3, 2)), 0.9, 0.7)
    for b in range(3):
        for n in range(2):
            alone = td_lambda(reward[:, b, n], value[:, b, n], terminated[:, b, n], jnp.ones(5), 0.9, 0.7)
            np.testing.assert_allclose(together[:, b, n], alone, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_plain_loop_finds_the_same(seed):
    rng = np.random.default_rng(seed)
    length = 40
    reward, value = rng.normal(size=(2, length))
    terminated = rng.random(length) < 0.15
    mask = np.where(rng.random(length) < 0.15, 0.0, 1.0) * ~terminated + terminated
    gamma, lambda_ = 0.93, 0.6

    def by_hand(t):
        """G_t by its definition: mix the next value with the next return, unless one of them does not exist."""
        if terminated[t]:
            return reward[t]
        known = t + 1 < length and mask[t + 1] == 1
        beyond = (1 - lambda_) * value[t] + lambda_ * by_hand(t + 1) if known else value[t]
        return reward[t] + gamma * beyond

    found = returns(reward, value, terminated, mask, gamma, lambda_)
    np.testing.assert_allclose(found, [by_hand(t) for t in range(length)], rtol=1e-5, atol=1e-6)


def test_masked_mean_counts_only_what_is_there():
    assert masked_mean(jnp.array([1.0, 2.0, 100.0]), jnp.array([1.0, 1.0, 0.0])) == 1.5
    assert masked_mean(jnp.array([[1.0, 2.0], [3.0, 50.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])) == 2.0


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(jnp.array([5.0, 7.0]), jnp.zeros(2)) == 0.0


# -- policy gradients ------------------------------------------------------------------------------------------------------


def advantages(reward, value, terminated, mask, gamma=0.5, lambda_=0.5):
    arrays = (
        jnp.array(reward, jnp.float32),
        jnp.array(value, jnp.float32),
        jnp.array(terminated, bool),
        jnp.array(mask, jnp.float32),
    )
    return np.asarray(gae(*arrays, gamma, lambda_))


def test_advantages_by_hand():
    # delta: 1 + 5 - 4 = 2, 2 + 10 - 10 = 2, 3 + 15 - 20 = -2.  A_2 = -2;  A_1 = 2 - 0.25 * 2 = 1.5;  A_0 = 2 + 0.25 * 1.5
    np.testing.assert_allclose(advantages([1, 2, 3], [4, 10, 20, 30], [0, 0, 0], [1, 1, 1]), [2.375, 1.5, -2])


def test_no_advantage_comes_from_beyond_a_termination():
    # delta_1 = 2 - 10 = -8, and nothing from A_2.  A_0 = 2 - 0.25 * 8
    np.testing.assert_allclose(advantages([1, 2, 3], [4, 10, 20, 30], [0, 1, 0], [1, 1, 1]), [0, -8, -2])


def test_before_a_truncation_the_last_known_value_stands_for_the_future():
    # Transition 1 leads into another episode: A_0 = delta_0 = 1 + 5 - 4, whatever stands there and beyond.
    found = advantages([1, 2, 3], [4, 10, 20, 30], [0, 0, 0], [1, 0, 1])
    other = advantages([1, 99, -3], [4, 10, -20, 7], [0, 0, 0], [1, 0, 1])
    assert found[0] == other[0] == 2 and found[2] == -2


def test_advantages_are_the_discounted_sum_of_surprises():
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=12), rng.normal(size=13)
    delta = reward + 0.9 * value[1:] - value[:-1]
    by_hand = [sum((0.9 * 0.7) ** (k - t) * delta[k] for k in range(t, 12)) for t in range(12)]
    np.testing.assert_allclose(advantages(reward, value, [0] * 12, [1] * 12, 0.9, 0.7), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain", "slope"),
    [(1.1, 2.0, 2.2, 2.2), (1.5, 2.0, 2.4, 0.0), (0.5, 2.0, 1.0, 1.0), (1.5, -2.0, -3.0, -3.0), (0.5, -2.0, -1.6, 0.0)],
)
def test_the_clipped_gain_by_hand(ratio, advantage, gain, slope):
    """Its slope in the log-ratio is rho A, and zero where the policy has gone far enough."""
    value, by_log_ratio = jax.value_and_grad(lambda x: ppo_clip(x, jnp.float32(advantage), 0.2))(jnp.log(ratio))
    assert value == pytest.approx(gain) and by_log_ratio == pytest.approx(slope)


def test_huber_by_hand():
    np.testing.assert_allclose(huber(jnp.array([0.5, -2.0, 3.0, -10.0]), 2.0), [0.125, 2, 4, 18])


def test_the_value_loss_takes_the_worse_of_the_value_and_the_clipped_value():
    value, before, target = jnp.array([1.5, 1.5, 1.1]), jnp.array([1.0, 1.0, 1.0]), jnp.array([2.0, 0.0, 2.0])
    # clipped: 1.2, 1.2, 1.1;   errors 0.5 and 0.8, 1.5 and 1.2, 0.9 and 0.9
    np.testing.assert_allclose(clipped_value_loss(value, before, target, 0.2, 10.0), [0.32, 1.125, 0.405], rtol=1e-6)


def test_standardised_over_what_counts():
    found = standardised(jnp.array([1.0, 3.0, 100.0]), jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(found[:2], [-1, 1], rtol=1e-4)


def test_entropy_of_what_is_available():
    log_p = jax.nn.log_softmax(jnp.array([[0.0, 0.0, -1e9], [5.0, -1e9, -1e9]]))
    np.testing.assert_allclose(entropy(log_p), [np.log(2), 0.0], rtol=1e-6)
