"""State and hidden units through a tensor: the same numbers and gradients however many decisions there are, and whoever counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.errors import UnknownName
from limbeck.nets.bilinear import MATRICES, Order, bilinear
from limbeck.nets.products import check_products

MANY = 2 * MATRICES + 3


def drawn(rows, key):
    """A tensor, states and hidden units of two agents, and which decisions count."""
    keys = jax.random.split(key, 4)
    shapes = (4, 3, 2), (rows, 4), (rows, 2, 3)
    return *(jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=False)), jax.random.bernoulli(keys[3], 0.4, (rows,))


def plain(tensor, state, h):
    return jnp.einsum("dhz,rd,rnh->rnz", tensor, state, h)


def gradients(f, given, asked, counts=None):
    weight = 1.0 if counts is None else counts[:, None, None]
    return jax.grad(lambda *given: ((weight * f(*given)) ** 2).sum(), asked)(*given)


def close(one, other, tolerance):
    assert float(jnp.abs(other).max()) > 0
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(jnp.abs(other).max()))


def test_a_sum_by_hand():
    tensor, state, h = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]]), jnp.array([[10.0, 100.0]]), jnp.array([[[1.0, 0.5]]])
    assert bilinear(tensor, state, h).item() == 10 * 1 + 10 * 0.5 * 2 + 100 * 3 + 100 * 0.5 * 4


@pytest.mark.parametrize("asked", [(0, 2), (0, 1, 2)], ids=["the usual gradients", "the state's too"])
@pytest.mark.parametrize("rows", [3, MATRICES + 3, 2 * MATRICES])
def test_rows_in_blocks_give_the_same_numbers_and_gradients(rows, asked, key):
    *given, _ = drawn(rows, key)
    close(bilinear(*given), plain(*given), 1e-5)
    found, expected = (gradients(f, given, asked) for f in (bilinear, plain))
    for one, other in zip(found, expected, strict=True):
        close(one, other, 1e-5)


@pytest.mark.parametrize("rows", [MANY, 2 * MATRICES])
def test_rows_that_do_not_count_change_nothing_for_the_others(rows, key):
    *given, counts = drawn(rows, key)
    found, expected = bilinear(*given, counts), plain(*given)
    close(found[counts], expected[counts], 1e-5)
    for one, other in zip(
        gradients(lambda *g: bilinear(*g, counts), given, (0, 1, 2), counts),
        gradients(plain, given, (0, 1, 2), counts),
        strict=True,
    ):
        close(one, other, 1e-5)


def test_whole_blocks_of_rows_that_do_not_count_are_left_out(key):
    *given, _ = drawn(MANY, key)
    counts = jnp.arange(MANY) % 3 == 0  # 87 rows: one block of three
    found = bilinear(*given, counts)
    assert int((found != 0).any((1, 2)).sum()) == MATRICES
    assert not bilinear(*given, jnp.zeros(MANY, bool)).any()


@pytest.mark.parametrize("counting", [False, True])
def test_products_in_bfloat16_err_by_their_rounding_alone(counting, key):
    *given, counts = drawn(MANY, key)
    counts = counts if counting else jnp.ones(MANY, bool)
    coarse = lambda *g: bilinear(*g, counts if counting else None, "bfloat16")  # noqa: E731
    close(coarse(*given)[counts], plain(*given)[counts], 2e-2)
    assert float(jnp.abs(coarse(*given) - plain(*given))[counts].max()) > 1e-4, "is it bfloat16 at all?"
    to_tensor, to_state, to_h = gradients(coarse, given, (0, 1, 2), counts)
    for one, other in zip((to_tensor, to_state, to_h), gradients(plain, given, (0, 1, 2), counts), strict=True):
        close(one, other, 3e-2)


def test_few_rows_are_always_float32(key):
    *given, _ = drawn(MATRICES, key)
    np.testing.assert_array_equal(bilinear(*given, None, "bfloat16"), bilinear(*given))


def test_leading_axes_are_kept(key):
    tensor, state, h, counts = drawn(MANY - 1, key)
    shaped = bilinear(tensor, state.reshape(2, -1, 4), h.reshape(2, -1, 2, 3), counts.reshape(2, -1))
    assert shaped.shape == (2, MANY // 2, 2, 2)
    np.testing.assert_array_equal(shaped.reshape(-1, 2, 2), bilinear(tensor, state, h, counts))


def test_the_order_puts_those_that_count_first_and_back():
    order = Order.of(jnp.array([False, True, False, True, True]))
    np.testing.assert_array_equal(order.first, [1, 3, 4, 0, 2])
    some = jnp.arange(5) * 10
    np.testing.assert_array_equal(order.undo(order.sort(some)), some)
    assert Order.of(None).sort(some) is some and Order.of(None).undo(some) is some


def test_numbers_that_are_not_there():
    with pytest.raises(UnknownName, match="products 'float8'"):
        check_products("float8")
