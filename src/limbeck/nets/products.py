"""What numbers matrices are multiplied in: float32, or bfloat16 with sums in float32, several times faster on some processors.

XLA on a CPU packs the operands of a bfloat16 product more slowly than it multiplies them, unless they lie row by row. So what
is to be turned is turned by itself, and laid down so (docs/decisions/0015).
"""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from limbeck.errors import unknown

PRODUCTS = ("float32", "bfloat16")
"""in which numbers matrices are multiplied; sums are float32 in any case"""


def check_products(products: str) -> str:
    """The same name.

    Raises:
        UnknownName: there are no such numbers.
    """
    if products not in PRODUCTS:
        raise unknown("products", products, PRODUCTS)
    return products


def coarsely(x: Float[Array, "*b i"], y: Float[Array, "i o"]) -> Float[Array, "*b o"]:
    """x @ y, rounded to bfloat16 before and summed in float32. It has no gradient of its own, see `coarse_product`."""
    return jnp.dot(rounded(x), rounded(y), preferred_element_type=jnp.float32)


def rounded(x: Array) -> Array:
    """In bfloat16."""
    return x.astype(jnp.bfloat16)


def turned(x: Float[Array, "i o"]) -> Array:
    """x transposed and in bfloat16, lying row by row."""
    return _laid(rounded(x).T)


def _laid(x: Array) -> Array:
    return with_layout_constraint(x, Layout(major_to_minor=(0, 1)))


@jax.custom_vjp
def coarse_product(x: Float[Array, "*b i"], weight: Float[Array, "o i"]) -> Float[Array, "*b o"]:
    """x @ weight.T, with its gradients, in bfloat16."""
    return coarsely(x, turned(weight))


def _forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return coarse_product(x, weight), (x, weight)


def _backward(kept: tuple[Array, Array], g: Float[Array, "*b o"]) -> tuple[Array, Array]:
    x, weight = kept
    return coarsely(g, weight), of_weight(g, x)


coarse_product.defvjp(_forward, _backward)


def of_weight(g: Float[Array, "*b o"], x: Float[Array, "*b i"]) -> Float[Array, "o i"]:
    """The gradient of `weight` in x @ weight.T, from that of the product: one product over all rows. The narrower is turned."""
    g, x = _rows(g), _rows(x)
    return coarsely(turned(g), x) if g.shape[-1] < x.shape[-1] else _laid(coarsely(turned(x), g)).T


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
