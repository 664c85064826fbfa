"""From documents to lists that all have the same length: normalised, dealt out, padded."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from limbeck.envs.ranking.files import BadData
from limbeck.envs.ranking.svmlight import Documents

FARTHEST = 4.0
"""standard deviations beyond which a feature is cut off"""
LEAST = 2
"""documents that make a list: there is nothing to rank in one"""


class Lists(NamedTuple):
    """Q lists of at most N documents. Where there is no document, all is zero."""

    queries: Int[np.ndarray, "Q"]
    """which query each list is of"""
    features: Float[np.ndarray, "Q N F"]
    """normalised, from -2 to 2"""
    labels: Int[np.ndarray, "Q N"]
    present: Bool[np.ndarray, "Q N"]


class Scale(NamedTuple):
    """How features are normalised: sign(x) log(1 + |x|), less its mean, by its deviation, both over the training documents."""

    mean: Float[np.ndarray, "F"]
    deviation: Float[np.ndarray, "F"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "D F"]) -> "Scale":
        """Missing numbers do not count; a feature that is always the same, or always missing, becomes 0."""
        known = ~np.isnan(features)
        count = np.maximum(known.sum(0), 1)
        squeezed = np.where(known, _squeeze(features), 0.0)
        mean = squeezed.sum(0, dtype=np.float64) / count
        spread = (np.where(known, squeezed - mean, 0.0) ** 2).sum(0, dtype=np.float64) / count
        deviation = np.where(spread > 1e-12, np.sqrt(spread), np.inf)
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def __call__(self, features: Float[np.ndarray, "D F"]) -> Float[np.ndarray, "D F"]:
        """Cut off at `FARTHEST` and halved, so that they stay within the unit scale; 0, the mean, where a number is missing."""
        standard = np.clip((_squeeze(features) - self.mean) / self.deviation, -FARTHEST, FARTHEST)
        return np.nan_to_num(standard * (2 / FARTHEST)).astype(np.float32)


def deal(found: Documents, scale: Scale, length: int, seed: int) -> Lists:
    """Lists of `length` documents: each query's documents are shuffled, then dealt into as many lists as it takes.

    So every document is used, and its place says nothing. The last list of a query may be shorter. Lists are left out that have
    fewer than two documents, or no relevant one, or only equally relevant ones: no ranking of them is better than another.

    Args:
        found: the documents.
        scale: fitted to the training documents, whatever these are.
        length: of the lists, N.
        seed: of the shuffle.

    Raises:
        BadData: no list is left.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(found.queries)), found.queries))
    query = found.queries[order]
    starts = np.flatnonzero(np.append(True, query[1:] != query[:-1]))
    size = np.diff(np.append(starts, len(query)))
    place = np.arange(len(query)) - np.repeat(starts, size)
    lists_of = -(-size // length)
    row = np.repeat(lists_of.cumsum() - lists_of, size) + place // length
    at, count = (row, place % length), int(lists_of.sum())
    labels, present = np.zeros((count, length), np.int32), np.zeros((count, length), bool)
    features = np.zeros((count, length, found.features.shape[1]), np.float32)
    labels[at], present[at], features[at] = found.labels[order], True, scale(found.features[order])
    lowest = np.where(present, labels, np.iinfo(np.int32).max).min(1)
    kept = (present.sum(1) >= LEAST) & (labels.max(1) > lowest)
    if not kept.any():
        raise BadData("no query has two documents that are not equally relevant")
    return Lists(np.repeat(query[starts], lists_of)[kept], features[kept], labels[kept], present[kept])


def sample(lists: Lists, most: int | None, seed: int) -> Lists:
    """At most so many of them, drawn at random; None: all."""
    count = len(lists.queries)
    if most is None or count <= most:
        return lists
    kept = np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    return Lists(*(each[kept] for each in lists))


def _squeeze(features: Float[np.ndarray, "D F"]) -> Float[np.ndarray, "D F"]:
    return np.sign(features) * np.log1p(np.abs(features))
