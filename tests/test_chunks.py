"""Work in chunks gives what the work at once gives."""

import jax
import jax.numpy as jnp
import pytest

from limbeck.nets.chunks import in_chunks, split, sum_in_chunks
from limbeck.nets.mixers import Layers

NET = Layers((3, 8, 8, 1), jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (11, 2, 3))
WEIGHT = jax.random.uniform(jax.random.key(2), (11, 2, 1))


def total(net, tree):
    x, weight = tree
    return (weight * net(x) ** 2).sum()


@pytest.mark.parametrize("chunk", [1, 4, 11, 16])
def test_values_do_not_depend_on_the_chunk(chunk):
    assert jnp.allclose(in_chunks(NET, X, chunk), NET(X), atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 11, 16])
def test_sum_and_its_gradients_do_not_depend_on_the_chunk(chunk):
    def three_times(net, tree):
        return 3 * sum_in_chunks(total, net, tree, chunk)

    found, gradient = jax.value_and_grad(three_times, argnums=(0, 1))(NET, (X, WEIGHT))
    expected, whole = jax.value_and_grad(lambda net, tree: 3 * total(net, tree), argnums=(0, 1))(NET, (X, WEIGHT))
    assert jnp.allclose(found, expected, rtol=1e-5)
    assert all(jnp.allclose(a, b, atol=1e-5) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(whole), strict=True))
    assert all(jnp.abs(each).max() > 0 for each in jax.tree.leaves(gradient))


def test_split_keeps_every_entry_in_order():
    whole, rest = split(jnp.arange(7), 3)
    assert whole is not None and whole.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rest is not None and rest.tolist() == [6]
    assert split(jnp.arange(2), 3)[0] is None and split(jnp.arange(6), 3)[1] is None
