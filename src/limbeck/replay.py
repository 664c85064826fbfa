"""Where experience waits to be learned from: `Replay` (segments), `Latest` (the last segment), `Epochs` (what was made of the last
segment, in minibatches), `Dataset` (labelled rows).

All share one interface, `init / add / draws / sample`, pure and jit-able: `draws` says what each of an iteration's updates samples.
Buffers hold whole segments in a row each, so what is sampled is contiguous wherever the ring wraps.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, Key, PRNGKeyArray, PyTree

from limbeck.errors import BadSetting
from limbeck.types import Decision, Segment


class Ring(NamedTuple):
    """Slots, each filled by one write: leaves of `data` are [slots, rows of a write, ...]. The filled slots come first."""

    data: PyTree
    next: Int[Array, ""]
    size: Int[Array, ""]


def _ring(rows: PyTree, capacity: int) -> Ring:
    n = jax.tree.leaves(rows)[0].shape[0]
    slots = max(capacity // n, 1)
    zero = jnp.zeros((), jnp.int32)
    return Ring(jax.tree.map(lambda x: jnp.zeros((slots, *x.shape), x.dtype), rows), zero, zero)


def _write(ring: Ring, rows: PyTree) -> Ring:
    slots = jax.tree.leaves(ring.data)[0].shape[0]
    data = jax.tree.map(lambda all_, new: jax.lax.dynamic_update_index_in_dim(all_, new, ring.next, 0), ring.data, rows)
    return Ring(data, (ring.next + 1) % slots, jnp.minimum(ring.size + 1, slots))


def _read(ring: Ring, row: Int[Array, "*n"]) -> PyTree:
    """Rows by their number, counted through the slots."""
    width = jax.tree.leaves(ring.data)[0].shape[1]
    slot, within = row // width, row % width
    return jax.tree.map(lambda x: x[slot, within], ring.data)


def _ring_spec(axis: str) -> Ring:
    whole: Any = P()
    return Ring(P(None, axis), whole, whole)


def _n_rows(ring: Ring) -> Int[Array, ""]:
    return ring.size * jax.tree.leaves(ring.data)[0].shape[1]


class EachByItself:
    """Every sample is drawn without regard to the others."""

    def draws(self, buffer: Any, key: Key[Array, "U"]) -> Key[Array, "U"]:
        """What each of U updates hands to `sample`: a key of its own."""
        return key


@dataclass(frozen=True)
class Replay(EachByItself):
    """The last `capacity` segments; samples `batch` of them uniformly, with replacement.

    Args:
        capacity: segments kept, over all devices.
        batch: segments per sample, over all devices.
        half: keep observations, states and hidden states in half precision (for worlds of unit scale).
    """

    capacity: int
    batch: int
    half: bool = False

    def split(self, devices: int) -> "Replay":
        """One device's share.

        Raises:
            BadSetting: the batch does not divide evenly.
        """
        return Replay(self.capacity // devices, _share("batch", self.batch, devices), self.half)

    def spec(self, axis: str) -> Ring:
        """How a buffer lies on several devices."""
        return _ring_spec(axis)

    def init(self, segment: Segment) -> Ring:
        """An empty buffer for segments shaped like this one (arrays or shapes, [T, B, ...])."""
        return _ring(jax.eval_shape(self._rows, segment), self.capacity)

    def add(self, buffer: Ring, segment: Segment) -> Ring:
        """Add the segment's B streams."""
        return _write(buffer, self._rows(segment))

    def sample(self, buffer: Ring, key: PRNGKeyArray) -> Segment:
        """`batch` segments as one, [T, batch, ...]."""
        index = jax.random.randint(key, (self.batch,), 0, _n_rows(buffer))
        # One by one: XLA would fuse a gather with the write before it, and then copy the whole buffer at every update.
        return self._unrows(jax.lax.map(lambda i: _read(buffer, i), index))

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
class Latest(EachByItself):
    """Only what was collected last, for on-policy learning; every sample is all of it."""

    def split(self, devices: int) -> "Latest":
        """One device's share: the same."""
        return self

    def spec(self, axis: str) -> Segment:
        """How a buffer lies on several devices."""
        some: Any = P(None, axis)
        return Segment(Decision(*[some] * len(Decision._fields)), some, some, some, some, P(axis))

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
class Epochs:
    """What was made of the segment collected last, in rows: any pytree whose leaves lead with the row axis.

    An iteration's updates go through all rows again and again, each time shuffled and cut into `minibatches`. On several devices
    each shuffles its own share. What does not fill a minibatch is left out of that epoch.

    Args:
        minibatches: updates per epoch; the iteration's updates are a multiple of it.
    """

    minibatches: int

    def split(self, devices: int) -> "Epochs":
        """One device's share: as many minibatches, of its own rows."""
        return self

    def spec(self, axis: str) -> Any:
        """How a buffer lies on several devices."""
        return P(axis)

    def init(self, rows: PyTree) -> PyTree:
        """A place for rows like these ([n, ...] arrays or shapes).

        Raises:
            BadSetting: there are fewer rows than minibatches.
        """
        if self._per(rows) < 1:
            raise BadSetting(f"{jax.tree.leaves(rows)[0].shape[0]} rows on a device make no {self.minibatches} minibatches")
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), rows)

    def add(self, buffer: PyTree, rows: PyTree) -> PyTree:
        """The new rows replace the old ones."""
        return rows

    def draws(self, buffer: PyTree, key: Key[Array, "U"]) -> Int[Array, "U n"]:
        """Which rows each of U updates learns from."""
        rows, used = jax.tree.leaves(buffer)[0].shape[0], self._per(buffer) * self.minibatches
        each_epoch = key.reshape(-1, self.minibatches)[:, 0]
        order = jax.vmap(lambda k: jax.random.permutation(k, rows)[:used])(each_epoch)
        return order.reshape(key.shape[0], -1)

    def sample(self, buffer: PyTree, rows: Int[Array, "n"]) -> PyTree:
        """The rows by their numbers."""
        return jax.tree.map(lambda x: x[rows], buffer)

    def _per(self, rows: PyTree) -> int:
        return jax.tree.leaves(rows)[0].shape[0] // self.minibatches


@dataclass(frozen=True)
class Dataset(EachByItself):
    """Labelled rows: any pytree whose leaves lead with the row axis. One of every five rows in a row is held out for validation.

    Which of the five is scattered: rows come in a rhythm (agents within worlds within time), and with five agents a fixed one would
    hold out one agent altogether.

    Args:
        capacity: rows kept, over all devices.
        batch: rows per sample, drawn uniformly with replacement from the other four fifths.
        holdout_batch: rows per validation sample.
    """

    capacity: int
    batch: int
    holdout_batch: int = 8192

    def split(self, devices: int) -> "Dataset":
        """One device's share.

        Raises:
            BadSetting: the batches do not divide evenly.
        """
        batch, holdout = _share("batch", self.batch, devices), _share("validation batch", self.holdout_batch, devices)
        return Dataset(-(-self.capacity // devices), batch, holdout)

    def spec(self, axis: str) -> Ring:
        """How a buffer lies on several devices."""
        return _ring_spec(axis)

    def init(self, rows: PyTree) -> Ring:
        """An empty buffer for rows like these ([n, ...] arrays or shapes), n of which are added at a time."""
        return _ring(rows, self.capacity)

    def add(self, buffer: Ring, rows: PyTree) -> Ring:
        """Add n rows."""
        return _write(buffer, rows)

    def sample(self, buffer: Ring, key: PRNGKeyArray) -> PyTree:
        """`batch` training rows."""
        i = jax.random.randint(key, (self.batch,), 0, _n_rows(buffer) // 5 * 4)
        five, which = i // 4, i % 4
        return _read(buffer, five * 5 + which + (which >= _held_out(five)))

    def holdout(self, buffer: Ring, key: PRNGKeyArray) -> PyTree:
        """`holdout_batch` validation rows."""
        five = jax.random.randint(key, (self.holdout_batch,), 0, _n_rows(buffer) // 5)
        return _read(buffer, five * 5 + _held_out(five))


def _held_out(five: Int[Array, "*n"]) -> Int[Array, "*n"]:
    """Which row of the given five is held out: always the same one, in no rhythm (multiplicative hashing, Knuth 6.4)."""
    return ((five.astype(jnp.uint32) * jnp.uint32(2654435761)) >> 16).astype(jnp.int32) % 5


def _share(what: str, n: int, devices: int) -> int:
    if n % devices:
        raise BadSetting(f"a {what} of {n} cannot be split evenly over {devices} devices: take a multiple of {devices}")
    return n // devices
