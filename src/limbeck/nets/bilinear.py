"""sum_sh state_s h_nh T[s,h,z]: what a layer comes down to whose weights a network of one layer makes, for thousands of decisions.

The state meets the tensor first, which gives a matrix [H, Z] for every decision. `MATRICES` of them are there at once, so that they
stay in a core's cache, and the backward pass makes them again. docs/decisions/0008 has what was measured.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from limbeck.nets.chunks import in_chunks, split

MATRICES = 128
"""of numbers made for one decision or agent alone that are there at once"""


def bilinear(
    tensor: Float[Array, "S H Z"],
    state: Float[Array, "... S"],
    h: Float[Array, "... N H"],
    counts: Bool[Array, "..."] | None = None,
    products: str = "float32",
) -> Float[Array, "... N Z"]:
    """Every decision's state and each agent's h through the tensor.

    Args:
        tensor: what is learned.
        state: one for all agents of a decision.
        h: of each agent.
        counts: decisions that are looked at; the others may come out as 0. None: all of them.
        products: what more than `MATRICES` decisions are multiplied in. Fewer, as when one acts, are always float32.
    """
    rows = state.reshape(-1, state.shape[-1]), h.reshape(-1, *h.shape[-2:])
    if len(rows[0]) <= MATRICES:
        return (rows[1] @ _matrices(tensor, rows[0])).reshape(*h.shape[:-1], -1)
    found: Array = _many(jnp.dtype(products), tensor, *rows, None if counts is None else counts.reshape(-1))
    return found.reshape(*h.shape[:-1], -1)


def _matrices(tensor: Float[Array, "S A B"], state: Float[Array, "R S"]) -> Float[Array, "R A B"]:
    """A matrix for every decision, in float32; multiplied in the tensor's numbers."""
    found = jnp.dot(state.astype(tensor.dtype), tensor.reshape(len(tensor), -1), preferred_element_type=jnp.float32)
    return found.reshape(-1, *tensor.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _many(dtype: Any, tensor: Array, state: Array, h: Array, counts: Array | None) -> Float[Array, "R N Z"]:
    order, coarse = Order.of(counts), tensor.astype(dtype)

    def run(some: tuple[Array, Array, Array | None]) -> Array:
        state, h, counts = some
        return _if_any(counts, lambda: h @ _matrices(coarse, state), lambda: jnp.zeros((*h.shape[:-1], tensor.shape[-1])))

    return order.undo(in_chunks(run, order.sort((state, h, counts)), MATRICES))


def _forward(dtype: Any, tensor: Any, state: Any, h: Any, counts: Any) -> tuple[Array, Any]:
    """Arguments come with whether their gradient is asked for: the state's costs as much as the tensor's and seldom is."""
    tensor, asked, state, h = tensor.value, state.perturbed, state.value, h.value
    counts = None if counts is None else counts.value
    return _many(dtype, tensor, state, h, counts), (tensor, state, h, counts, () if asked else None)


def _backward(dtype: Any, kept: Any, g: Float[Array, "R N Z"]) -> tuple[Array, Array, Array, None]:
    """The gradients of tensor, state and h, a stretch at a time. The tensor's is float32: its sums run over all decisions."""
    tensor, state, h, counts, asked = kept
    order, turned = Order.of(counts), tensor.swapaxes(1, 2).astype(dtype)
    flat = tensor.reshape(len(tensor), -1)

    def add(total: Array, some: Any) -> tuple[Array, tuple[Array | None, Array]]:
        state, h, g, counts = some

        def run() -> tuple[Array, tuple[Array | None, Array]]:
            pairs = jnp.einsum("rnh,rnz->rhz", h, g).reshape(len(h), -1)
            to_state = None if asked is None else pairs @ flat.T
            return total + state.T @ pairs, (to_state, g @ _matrices(turned, state))

        return _if_any(counts, run, lambda: (total, (None if asked is None else jnp.zeros_like(state), jnp.zeros_like(h))))

    whole, rest = split(order.sort((state, h, g, counts)), MATRICES)
    total, parts = jax.lax.scan(add, jnp.zeros_like(flat), whole)
    to_rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
    if rest is not None:
        total, last = add(total, rest)
        to_rows = jax.tree.map(lambda *each: jnp.concatenate(each), to_rows, last)
    to_state, to_h = order.undo(to_rows)
    return total.reshape(tensor.shape), jnp.zeros_like(state) if to_state is None else to_state, to_h, None


_many.defvjp(_forward, _backward, symbolic_zeros=True)


# -- decisions that count, first -------------------------------------------------------------------------------------------


class Order(NamedTuple):
    """Those that count come first, so that whole stretches of the others can be left out. None: as they are."""

    first: Array | None
    """which comes where"""
    rank: Array | None
    """where each has gone"""

    @classmethod
    def of(cls, counts: Bool[Array, "R"] | None) -> "Order":
        """Without sorting, which is slow on a CPU."""
        if counts is None:
            return cls(None, None)
        before = jnp.cumsum(counts)
        all_ = jnp.arange(len(counts))
        rank = jnp.where(counts, before - 1, before[-1] + all_ - before)
        return cls(jnp.zeros_like(rank).at[rank].set(all_, unique_indices=True), rank)

    def sort(self, tree: Any) -> Any:
        """In this order."""
        return tree if self.first is None else jax.tree.map(lambda x: x[self.first], tree)

    def undo(self, tree: Any) -> Any:
        """As it was."""
        return tree if self.rank is None else jax.tree.map(lambda x: x[self.rank], tree)


def _if_any(counts: Array | None, run: Any, otherwise: Any) -> Any:
    """run(), or what stands for it where nothing counts."""
    return run() if counts is None else jax.lax.cond(counts.any(), run, otherwise)
