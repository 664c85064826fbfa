"""A pytree of arrays in one safetensors file: written whole or not at all, read back only if it is what was asked for.

The file is an ordinary safetensors file, but written here: leaf by leaf from where the arrays lie, without a copy, and only as far
as a buffer is filled.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from limbeck.errors import CheckpointError

FORMAT = "limbeck-1"
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_DTYPES = {code: jnp.dtype(name) for name, code in _CODES.items()}


class _Leaf(NamedTuple):
    """One array on its way to the file."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    """of what is stored"""
    pieces: list[np.ndarray]
    """one behind the other along axis 0"""
    note: dict[str, Any]
    """what the file must say beyond shape and type"""


def save(path: Path, tree: PyTree, meta: Mapping[str, Any] | None = None, prefix_lengths: Mapping[str, int] | None = None) -> None:
    """Write a pytree of arrays under `path`. A crash at any moment leaves either the old file or the new one.

    Args:
        path: the file.
        tree: arrays of any kind, typed PRNG keys included.
        meta: JSON values to be kept with it.
        prefix_lengths: by the start of a leaf's path, such as `buffer/data`: how many rows at the front of each device's part are
            worth storing. The others come back as zeros.

    Raises:
        CheckpointError: the file cannot be written, for instance because the disk is full.
    """
    leaves = [_leaf(name, leaf, _rows(name, prefix_lengths or {})) for name, leaf in _named(tree)]
    leaves.sort(key=lambda leaf: -leaf.dtype.itemsize)  # so that every array is aligned to its own type
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "meta": json.dumps(dict(meta or {})),
            "notes": json.dumps({leaf.name: leaf.note for leaf in leaves if leaf.note}),
        }
    }
    at = 0
    for leaf in leaves:
        end = at + sum(piece.nbytes for piece in leaf.pieces)
        header[leaf.name] = {"dtype": _CODES[leaf.dtype.name], "shape": leaf.shape, "data_offsets": [at, end]}
        at = end

    def body(file: BinaryIO) -> None:
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        for leaf in leaves:
            for piece in leaf.pieces:
                file.write(_bytes(piece))

    try:
        write_whole(path, body)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}; what was saved before is intact; make room and resume"
        ) from error


def load(path: Path, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """The pytree under `path`, with what was kept with it.

    Args:
        path: the file.
        like: the same structure of arrays or `jax.ShapeDtypeStruct`. Where such a leaf has a sharding, the array is put there.

    Raises:
        CheckpointError: the file is missing or corrupt, or holds other names, shapes or types than `like`.
    """
    header, data = _open(path)
    notes = json.loads(header["__metadata__"]["notes"])
    meta = json.loads(header["__metadata__"]["meta"])
    wanted = dict(_named(like))
    _check_names(path, list(wanted), [name for name in header if name != "__metadata__"])
    leaves = [_restore(path, name, leaf, header[name], notes.get(name, {}), data) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), meta


def read_meta(path: Path) -> dict[str, Any]:
    """What was kept with the arrays, without reading them.

    Raises:
        CheckpointError: the file is missing or corrupt.
    """
    return json.loads(_open(path)[0]["__metadata__"]["meta"])


def write_whole(path: Path, body: Callable[[BinaryIO], Any]) -> None:
    """Let `body` write a temporary file beside `path`, and give it that name once it is safely on the disk."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            body(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, must survive a power cut
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


# -- names -----------------------------------------------------------------------------------------------------------------


def _named(tree: PyTree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _rows(name: str, prefix_lengths: Mapping[str, int]) -> int | None:
    return next((n for start, n in prefix_lengths.items() if name == start or name.startswith(start + "/")), None)


def _check_names(path: Path, wanted: list[str], present: list[str]) -> None:
    missing = [name for name in wanted if name not in present]
    extra = [name for name in present if name not in wanted]
    if missing:
        instead = f" but holds `{extra[0]}`" if extra else ""
        raise _foreign(path, f"it lacks `{missing[0]}`{instead}")
    if extra:
        raise _foreign(path, f"it also holds `{extra[0]}`")


def _foreign(path: Path, difference: str) -> CheckpointError:
    return CheckpointError(f"{path} belongs to another method, world or setting: {difference}; use the one that it was made with")


# -- to the file -----------------------------------------------------------------------------------------------------------


def _leaf(name: str, leaf: Any, rows: int | None) -> _Leaf:
    note = {}
    if _is_key(leaf):
        note["key"] = str(jax.random.key_impl(leaf))
        leaf = jax.random.key_data(leaf)
    pieces = _pieces(leaf)
    shape = tuple(np.shape(leaf))
    if rows is not None and shape:
        note["rows"] = [piece.shape[0] for piece in pieces]
        pieces = [piece[:rows] for piece in pieces]
        shape = (sum(piece.shape[0] for piece in pieces), *shape[1:])
    pieces = [np.ascontiguousarray(piece) for piece in pieces]
    for piece in pieces:
        note["crc32"] = zlib.crc32(_bytes(piece), note.get("crc32", 0))
    return _Leaf(name, pieces[0].dtype, shape, pieces, note)


def _pieces(leaf: Any) -> list[np.ndarray]:
    """The array, or its parts where devices hold one part of axis 0 each: joining those would copy them all."""
    if isinstance(leaf, jax.Array) and leaf.ndim and len(leaf.devices()) > 1 and not leaf.is_fully_replicated:
        parts = {
            tuple(s.indices(n)[:2] for s, n in zip(shard.index, leaf.shape, strict=True)): shard
            for shard in leaf.addressable_shards
        }
        if all(span == (0, n) for index in parts for span, n in zip(index[1:], leaf.shape[1:], strict=True)):
            return [np.asarray(parts[index].data) for index in sorted(parts)]
    return [np.asarray(leaf)]


def _bytes(piece: np.ndarray) -> memoryview:
    return piece.reshape(-1).view(np.uint8).data


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf) if not hasattr(leaf, "dtype") else leaf.dtype, jax.dtypes.prng_key)


# -- from the file ---------------------------------------------------------------------------------------------------------


def _open(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The header, and the bytes behind it (mapped, not read)."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= size - 8 else b""
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; name a run folder that holds it") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = json.loads(text)
        version = header["__metadata__"]["format"]
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError):
        version, header, end = None, {}, -1
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path} is corrupt: it is cut short, or was never written by limbeck; delete it and use an older one"
        )
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version}, this version reads {FORMAT}; use the version that wrote it")
    data = np.memmap(path, np.uint8, "r", offset=8 + length) if end else np.zeros(0, np.uint8)
    return header, data


def _restore(path: Path, name: str, like: Any, entry: dict[str, Any], note: dict[str, Any], data: np.ndarray) -> jax.Array:
    start, stop = entry["data_offsets"]
    if zlib.crc32(_bytes(data[start:stop])) != note.get("crc32", 0):
        raise CheckpointError(f"{path} is corrupt: the bytes of `{name}` have changed since; delete it and use an older one")
    stored = np.asarray(data[start:stop]).view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    rows = note.get("rows")
    shape = tuple(entry["shape"]) if rows is None else (sum(rows), *entry["shape"][1:])
    key = note.get("key")
    if _is_key(like) != (key is not None):
        raise _foreign(path, f"`{name}` is {'a' if key else 'no'} random key")
    expected = jax.eval_shape(jax.random.key_data, like) if key else like
    if shape != tuple(np.shape(expected)) or stored.dtype != jnp.result_type(expected):
        described = f"{jnp.result_type(expected)}{list(np.shape(expected))}"
        raise _foreign(path, f"`{name}` is {stored.dtype}{list(shape)}, not {described}")
    if rows is not None:
        stored = _padded(stored, rows)
    if key:
        return jax.random.wrap_key_data(jnp.array(stored), impl=key)
    return _place(stored, getattr(like, "sharding", None))


def _padded(stored: np.ndarray, rows: list[int]) -> np.ndarray:
    """Every part's first rows back in their place, zeros behind them."""
    whole = np.zeros((len(rows), rows[0], *stored.shape[1:]), stored.dtype)
    filled = stored.shape[0] // len(rows)
    whole[:, :filled] = stored.reshape(len(rows), filled, *stored.shape[1:])
    return whole.reshape(-1, *stored.shape[1:])


def _place(array: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """Always a copy: the array must outlive the file."""
    if sharding is None or len(sharding.device_set) == 1:
        return jnp.array(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: np.array(array[index]))
