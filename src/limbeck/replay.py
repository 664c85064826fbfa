"""Where experience waits to be learned from: `Replay` (segments), `Latest` (the last segment), `Dataset` (labelled rows).

All three share one interface, `init / add / sample`, pure and jit-able. Buffers hold whole segments in a row each, so what is
sampled is contiguous wherever the ring wraps.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from limbeck.errors import BadSetting
from limbeck.types import Decision, Segment


class Ring(NamedTuple):
    """Rows on the first axis of every leaf of `data`."""

    data: PyTree
    next: Int[Array, ""]
    size: Int[Array, ""]


def _ring(row: PyTree, capacity: int) -> Ring:
    zero = jnp.zeros((), jnp.int32)
    return Ring(jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), row), zero, zero)


def _write(ring: Ring, rows: PyTree) -> Ring:
    """Write rows one behind the other; their number divides the capacity, so a write never straddles the end."""
    n = jax.tree.leaves(rows)[0].shape[0]
    capacity = jax.tree.leaves(ring.data)[0].shape[0]
    if capacity % n:
        raise BadSetting(f"a buffer of {capacity} rows is written {n} at a time: make the capacity a multiple of {n}")
    data = jax.tree.map(lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, ring.next, 0), ring.data, rows)
    return Ring(data, (ring.next + n) % capacity, jnp.minimum(ring.size + n, capacity))


@dataclass(frozen=True)
class Replay:
    """The last `capacity` segments; samples `batch` of them uniformly, with replacement.

    Args:
        capacity: segments kept (split evenly over the devices).
        batch: segments per sample.
        half: keep observations, states and hidden states in half precision (for worlds of unit scale).
    """

    capacity: int
    batch: int
    half: bool = False

    def split(self, devices: int, worlds: int) -> "Replay":
        """One device's share, with a capacity that whole writes of `worlds` segments fill exactly.

        Raises:
            BadSetting: the batch does not divide, or the capacity is smaller than one write.
        """
        if self.batch % devices or self.capacity < worlds * devices:
            raise BadSetting(
                f"batch {self.batch} and capacity {self.capacity} must fit {devices} devices of {worlds} worlds each: "
                f"take a batch divisible by {devices} and a capacity of at least {worlds * devices}"
            )
        return Replay(self.capacity // devices // worlds * worlds, self.batch // devices, self.half)

    def spec(self, axis: str) -> Ring:
        """How a buffer lies on several devices."""
        return Ring(P(axis), P(), P())

    def init(self, segment: Segment) -> Ring:
        """An empty buffer for segments shaped like this one (arrays or shapes, [T, B, ...])."""
        row = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), jax.eval_shape(self._rows, segment))
        return _ring(row, self.capacity)

    def add(self, buffer: Ring, segment: Segment) -> Ring:
        """Add the segment's B streams."""
        return _write(buffer, self._rows(segment))

    def sample(self, buffer: Ring, key: PRNGKeyArray) -> Segment:
        """`batch` segments as one, [T, batch, ...]."""
        index = jax.random.randint(key, (self.batch,), 0, buffer.size)
        return self._unrows(jax.tree.map(lambda x: x[index], buffer.data))

    def _rows(self, segment: Segment) -> Segment:
        """[T, B, ...] -> [B, T, ...], narrow."""
        rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), segment._replace(carry0=()))
        small = jnp.float16 if self.half else jnp.float32
        d = rows.decisions
        return rows._replace(
            decisions=d._replace(obs=d.obs.astype(small), state=d.state.astype(small), last_action=d.last_action.astype(jnp.int16)),
            action=rows.action.astype(jnp.int16),
            carry0=jax.tree.map(lambda x: x.astype(small), segment.carry0),
        )

    def _unrows(self, rows: Segment) -> Segment:
        """[b, T, ...] -> [T, b, ...], wide."""

        def wide(x: Array) -> Array:
            if jnp.issubdtype(x.dtype, jnp.floating):
                return x.astype(jnp.float32)
            return x.astype(jnp.int32) if jnp.issubdtype(x.dtype, jnp.integer) else x

        segment = jax.tree.map(lambda x: wide(jnp.swapaxes(x, 0, 1)), rows._replace(carry0=()))
        return segment._replace(carry0=jax.tree.map(wide, rows.carry0))


@dataclass(frozen=True)
class Latest:
    """Only what was collected last, for on-policy learning; every sample is all of it."""

    def split(self, devices: int, worlds: int) -> "Latest":
        """One device's share: the same."""
        return self

    def spec(self, axis: str) -> Segment:
        """How a buffer lies on several devices."""
        some = P(None, axis)
        return Segment(Decision(some, some, some, some, some, some), some, some, some, some, P(axis))

    def init(self, segment: Segment) -> Segment:
        """A place for one segment."""
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), segment)

    def add(self, buffer: Segment, segment: Segment) -> Segment:
        """The new segment replaces the old one."""
        return segment

    def sample(self, buffer: Segment, key: PRNGKeyArray) -> Segment:
        """The segment."""
        return buffer


@dataclass(frozen=True)
class Dataset:
    """Labelled rows: any pytree whose leaves lead with the row axis. A fifth of them (every fifth row) is held out for validation.

    Args:
        capacity: rows kept (split evenly over the devices).
        batch: rows per sample, drawn uniformly with replacement from the other four fifths.
        holdout_batch: rows per validation sample.
    """

    capacity: int
    batch: int
    holdout_batch: int = 8192

    def split(self, devices: int, worlds: int) -> "Dataset":
        """One device's share."""
        return Dataset(self.capacity // devices, self.batch // devices, self.holdout_batch // devices)

    def spec(self, axis: str) -> Ring:
        """How a buffer lies on several devices."""
        return Ring(P(axis), P(), P())

    def init(self, rows: PyTree) -> Ring:
        """An empty buffer for rows like these ([n, ...] arrays or shapes); n decides how much one write holds."""
        n = jax.tree.leaves(rows)[0].shape[0]
        row = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), rows)
        return _ring(row, max(self.capacity // n, 1) * n)

    def add(self, buffer: Ring, rows: PyTree) -> Ring:
        """Add n rows."""
        return _write(buffer, rows)

    def sample(self, buffer: Ring, key: PRNGKeyArray) -> PyTree:
        """`batch` training rows."""
        i = jax.random.randint(key, (self.batch,), 0, buffer.size // 5 * 4)
        return jax.tree.map(lambda x: x[i // 4 * 5 + 1 + i % 4], buffer.data)

    def holdout(self, buffer: Ring, key: PRNGKeyArray) -> PyTree:
        """`holdout_batch` validation rows."""
        i = jax.random.randint(key, (self.holdout_batch,), 0, buffer.size // 5)
        return jax.tree.map(lambda x: x[i * 5], buffer.data)


Store = Replay | Latest | Dataset
