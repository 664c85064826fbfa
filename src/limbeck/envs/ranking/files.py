"""Files of judged documents: LETOR 4.0, MSLR-WEB10K and 30K, Yahoo's challenge, Istella; all are SVMlight text with query numbers.

A line that is not of this form is named, with what is wrong. What was read is kept in a cache as .npz, and read anew when the
file's size or time has changed.
"""

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

from limbeck.envs.ranking import svmlight
from limbeck.envs.ranking.svmlight import Documents, Form
from limbeck.errors import LimbeckError, unknown

CHUNK = 1 << 24
"""bytes that are parsed at a time"""
CACHE_VERSION = 1


class BadData(LimbeckError, ValueError):  # noqa: N818
    """A file of documents that cannot be read; the text names the line."""


FORMS = {
    "letor": Form(46, 2, True),  # MQ2007 and MQ2008
    "mslr": Form(136, 4, True),
    "yahoo": Form(700, 4, False),
    "istella": Form(220, 4, False),
    "svmlight": Form(None, 4, False),
}
SPLITS = {"train": ("train",), "validation": ("vali", "valid", "validation"), "test": ("test",)}
"""parts of a data set, and what their files are called"""


def read_splits(path: str | Path, form: str = "svmlight", cache: str | Path | None = None) -> dict[str, Documents]:
    """Training, validation and test documents, from `path/train.txt` and so on; or from `path.train.txt`, as Yahoo has it (`set1`).

    Args:
        path: a folder, or the beginning of the files' names.
        form: one of `FORMS`.
        cache: see `read`.

    Raises:
        UnknownName: there is no such form.
        BadData: a file is missing or cannot be read, or a query is in two of them.
    """
    found = {split: read(_file_of(path, split), form, cache) for split in SPLITS}
    width = max(each.features.shape[1] for each in found.values())
    names = list(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            both = np.intersect1d(found[one].queries, found[other].queries)
            if len(both):
                raise BadData(f"query {both[0]} is in {_file_of(path, one)} and in {_file_of(path, other)}: it cannot be held out")
    return {split: each._replace(features=_widened(each.features, width)) for split, each in found.items()}


def stamps(path: str | Path) -> tuple[tuple[int, int], ...]:
    """Size and time of the three files: as long as they are the same, so are the documents.

    Raises:
        BadData: a file is missing.
    """
    return tuple(_stamp(_file_of(path, split)) for split in SPLITS)


def read(path: str | Path, form: str = "svmlight", cache: str | Path | None = None) -> Documents:
    """The documents in a file.

    Args:
        path: the file.
        form: one of `FORMS`.
        cache: a folder for what was read; None: `limbeck/ranking` in the user's cache folder.

    Raises:
        UnknownName: there is no such form.
        BadData: the file cannot be read: which line, and why.
        LimbeckError: the cache cannot be written.
    """
    if form not in FORMS:
        raise unknown("form of ranking data", form, FORMS)
    path = Path(path).resolve()
    stamp = np.array([*_stamp(path), CACHE_VERSION])
    folder = Path(cache) if cache is not None else _cache_folder()
    kept = folder / f"{hashlib.sha256(f'{form} {path}'.encode()).hexdigest()[:32]}.npz"
    found = _recall(kept, stamp)
    if found is None:
        found = parse(path, form)
        _keep(kept, stamp, found)
    return found


def parse(path: Path, form: str = "svmlight") -> Documents:
    """The same, without a cache."""
    known, parts, line = FORMS[form], [], 1
    try:
        with open(path, "rb") as file:
            for text in _chunks(file):
                parts.append(svmlight.parse(text, known))
                line += text.count(b"\n")
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from error
    except svmlight.Fault as fault:
        raise BadData(f"{path}:{line + fault.line}: {fault}") from None
    if not sum(len(part.labels) for part in parts):
        raise BadData(f"{path} holds no documents")
    width = known.features or max(part.features.shape[1] for part in parts)
    queries = np.concatenate([part.queries for part in parts])
    starts = np.flatnonzero(np.append(True, queries[1:] != queries[:-1]))
    again = np.setdiff1d(np.arange(len(starts)), np.unique(queries[starts], return_index=True)[1])
    if len(again):
        raise BadData(f"{path}: the documents of query {queries[starts[again[0]]]} are not one after the other")
    features = np.concatenate([_widened(part.features, width) for part in parts])
    return Documents(queries, np.concatenate([part.labels for part in parts]), features)


# -- a file -------------------------------------------------------------------------------------------------------------


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """The file in stretches of whole lines, each ending in a newline."""
    rest = b""
    while text := file.read(CHUNK):
        text = rest + text
        end = text.rfind(b"\n") + 1
        if end:
            yield text[:end]
        rest = text[end:]
    if rest:
        yield rest + b"\n"


def _widened(features: Float[np.ndarray, "D F"], width: int) -> Float[np.ndarray, "D W"]:
    """With further features, which the file did not name: they are 0."""
    return np.pad(features, ((0, 0), (0, width - features.shape[1])))


# -- the cache -------------------------------------------------------------------------------------------------------------


def _file_of(path: str | Path, split: str) -> Path:
    """Where a part of the data is."""
    path = Path(path)
    tried = [path / f"{name}.txt" if path.is_dir() else path.with_name(f"{path.name}.{name}.txt") for name in SPLITS[split]]
    for each in tried:
        if each.is_file():
            return each
    raise BadData(f"there is no {split} file: neither {' nor '.join(map(str, tried))}")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "limbeck" / "ranking"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from error
    return state.st_size, state.st_mtime_ns


def _recall(kept: Path, stamp: Int[np.ndarray, "3"]) -> Documents | None:
    """What was read from the very same file before. A damaged cache is no more than a missing one."""
    try:
        with open(kept, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return Documents(**{name: file[name] for name in Documents._fields}) if np.array_equal(file["stamp"], stamp) else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _keep(kept: Path, stamp: Int[np.ndarray, "3"], found: Documents) -> None:
    """Written beside and put into place, so that nobody reads half of it."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".npz", delete=False) as file:
            try:
                np.savez(file, stamp=stamp, **found._asdict())
                file.close()
                os.replace(file.name, kept)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise LimbeckError(f"cannot keep what was read in {kept.parent}: {error.strerror}; set XDG_CACHE_HOME") from error
