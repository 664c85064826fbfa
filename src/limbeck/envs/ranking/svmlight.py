"""SVMlight text with query numbers, taken apart by numpy: no loop over lines or features, unless one of them is wrong.

2 qid:10 1:0.03 2:0 5:NULL # anything                   label, query, features by number; what is left out is 0
"""

import re
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

FILL = 1e30
"""numbers beyond this stand for "missing": Istella has the largest double there is, or what rounds to infinity"""
MISSING = 2 * FILL
"""what NULL becomes"""
MOST_FEATURES = 100_000
SPACE, COLON, NEWLINE, HASH = (np.uint8(ord(char)) for char in " :\n#")
NUMERIC = np.isin(np.arange(256), np.frombuffer(b"0123456789+-.eE: \n", np.uint8))


class Fault(Exception):  # noqa: N818
    """What is wrong with a line, counted from the start of the text."""

    def __init__(self, what: str, line: int):
        super().__init__(what)
        self.line = line


class Documents(NamedTuple):
    """Judged documents, those of a query one after the other."""

    queries: Int[np.ndarray, "D"]
    """which query each belongs to"""
    labels: Int[np.ndarray, "D"]
    """how relevant it is, from 0"""
    features: Float[np.ndarray, "D F"]
    """as they stand in the file; NaN where they are missing"""

    def part(self, start: int, stop: int) -> "Documents":
        """The documents from `start` up to `stop`."""
        return Documents(*(each[start:stop] for each in self))


@dataclass(frozen=True)
class Form:
    """What is known of a data set's files."""

    features: int | None
    """how many there are; None: as many as the file names"""
    best: int
    """the highest label"""
    dense: bool
    """every line has every feature"""


def parse(text: bytes, form: Form) -> Documents:
    """Documents from whole lines, the last of which ends in a newline too.

    Raises:
        Fault: a line that breaks the form.
    """
    plain = text.replace(b"\t", b" ").replace(b"\r", b" ").replace(b":NULL", f":{MISSING}".encode())
    lines = Lines.of(_without_comments(np.frombuffer(plain, np.uint8)))
    if not len(lines.words):
        return Documents(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, form.features or 1), np.float32))
    bad = lines.malformed()
    if bad.any():
        line = int(np.argmax(bad))
        raise Fault(_explain(text.split(b"\n")[line]) or "it holds characters that do not belong there", line)
    numbers = lines.numbers()
    if numbers is None:
        every = enumerate(map(_explain, text.split(b"\n")))
        raise next(Fault(reason, line) for line, reason in every if reason)
    return _documents(lines, numbers, form)


def _without_comments(chars: Int[np.ndarray, "C"]) -> Int[np.ndarray, "C"]:
    """The characters, blank from # to the end of the line."""
    hashes = chars == HASH
    if not hashes.any():
        return chars
    ends = np.flatnonzero(chars == NEWLINE)
    line = np.append(0, np.cumsum(chars == NEWLINE)[:-1])
    before = np.append(0, np.cumsum(hashes))
    start = np.append(0, ends[:-1] + 1)
    commented = (before[1:] - before[start][line]) > 0
    return np.where(commented & (chars != NEWLINE), SPACE, chars)


class Lines(NamedTuple):
    """Lines as characters, and where their words begin."""

    chars: Int[np.ndarray, "C"]
    words: Int[np.ndarray, "W"]
    """the first character of each word"""
    line: Int[np.ndarray, "W"]
    """of each word"""
    first: Int[np.ndarray, "D"]
    """the first word of each line that is not empty"""
    colons: Int[np.ndarray, "W"]
    """in each word"""
    height: int
    """of lines, with the empty ones"""

    @classmethod
    def of(cls, chars: Int[np.ndarray, "C"]) -> "Lines":
        blank = (chars == SPACE) | (chars == NEWLINE)
        words = np.flatnonzero(~blank & np.append(True, blank[:-1]))
        newlines = np.flatnonzero(chars == NEWLINE)
        line = np.searchsorted(newlines, words)
        first = np.flatnonzero(np.append(len(words) > 0, line[1:] != line[:-1]))
        colons = np.add.reduceat(chars == COLON, words, dtype=np.int32) if len(words) else words
        return cls(chars, words, line, first, colons, len(newlines))

    @property
    def per_line(self) -> Int[np.ndarray, "D"]:
        """Words in each line that is not empty."""
        return np.diff(np.append(self.first, len(self.words)))

    def malformed(self) -> Bool[np.ndarray, "L"]:
        """Which lines are not a label, `qid:` and a number, and words with one colon, all made of what numbers are made of."""
        bad = np.zeros(self.height, bool)
        is_first = np.zeros(len(self.words), bool)
        is_first[self.first] = True
        bad[self.line[self.colons != ~is_first]] = True
        bad[self.line[self.first[self.per_line < 2]]] = True
        second = self.first[self.per_line >= 2] + 1
        padded = np.append(self.chars, np.zeros(4, np.uint8))
        named = (padded[self.words[second][:, None] + np.arange(4)] == np.frombuffer(b"qid:", np.uint8)).all(-1)
        bad[self.line[second[~named]]] = True
        strange = ~NUMERIC[self.chars]
        strange[(self.words[second[named]][:, None] + np.arange(4)).reshape(-1)] = False
        bad[np.searchsorted(np.flatnonzero(self.chars == NEWLINE), np.flatnonzero(strange))] = True
        return bad

    def numbers(self) -> Float[np.ndarray, "X"] | None:
        """All numbers of well-formed lines: a label and a query, and two for each feature. None if a word is none."""
        plain = np.where(NUMERIC[self.chars] & (self.chars != COLON), self.chars, SPACE).tobytes()
        try:
            with warnings.catch_warnings():  # numpy before 2.3 warns where it now raises
                warnings.simplefilter("error", DeprecationWarning)
                found = np.fromstring(plain, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
        return found if len(found) == 2 * (len(self.words) - len(self.first)) else None


def _documents(lines: Lines, numbers: Float[np.ndarray, "X"], form: Form) -> Documents:
    """What the numbers of well-formed lines say.

    Raises:
        Fault: a line breaks the form.
    """
    count = 2 * lines.per_line - 2
    start = np.append(0, count.cumsum()[:-1])
    labels, queries = numbers[start], numbers[start + 1]
    is_pair = np.ones(len(numbers), bool)
    is_pair[start] = is_pair[start + 1] = False
    ids, values = numbers[is_pair].reshape(-1, 2).T
    row = np.repeat(np.arange(len(count)), count // 2 - 1)
    # What a line can still be wrong in, each with the rows where it is.
    top = form.features or MOST_FEATURES
    falling = (np.diff(ids) <= 0) & (row[1:] == row[:-1])
    fewer = np.zeros(0, int) if not form.dense else np.flatnonzero(count // 2 - 1 != form.features)
    faults = {
        f"its label is no whole number from 0 to {form.best}": np.flatnonzero(~_whole(labels, 0, form.best)),
        "its query is no whole number": np.flatnonzero(~_whole(queries, 0, 2**53)),
        f"a feature's number is not from 1 to {top}": row[~_whole(ids, 1, top)],
        "its features are not in the order of their numbers": row[1:][falling],
        f"it has not all {form.features} features": fewer,
    }
    for fault, rows in faults.items():
        if len(rows):
            raise Fault(fault, int(lines.line[lines.first[rows[0]]]))
    values[np.abs(values) > FILL] = np.nan
    features = np.zeros((len(count), form.features or int(ids.max(initial=1))), np.float32)
    features[row, ids.astype(np.int64) - 1] = values
    return Documents(queries.astype(np.int64), labels.astype(np.int32), features)


def _whole(numbers: Float[np.ndarray, "X"], least: float, most: float) -> Bool[np.ndarray, "X"]:
    return (numbers >= least) & (numbers <= most) & (numbers == np.round(numbers))


def _explain(line: bytes) -> str:
    """What is wrong with a line that is not of the form, word by word."""
    words = line.partition(b"#")[0].decode("ascii", "replace").split()
    if not words:
        return ""
    if words[0].startswith("qid:"):
        return "it has no label; it must begin with one, then qid:NUMBER"
    if not _is_number(words[0]):
        return f"its label '{words[0]}' is no number"
    if len(words) < 2 or not words[1].startswith("qid:"):
        return "after the label must come qid:NUMBER"
    if not _is_number(words[1].removeprefix("qid:")):
        return f"its query '{words[1]}' is no number"
    for word in words[2:]:
        feature, _, value = word.partition(":")
        if not _is_number(feature) or (not _is_number(value) and value != "NULL"):
            return f"'{word}' is no feature, NUMBER:VALUE"
    return ""


def _is_number(word: str) -> bool:
    """Whether a word is a finite number in the usual notation."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word) is not None
