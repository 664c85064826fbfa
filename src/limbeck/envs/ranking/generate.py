"""Made-up queries, in the form of the public data sets: what the world learns on where those are not at hand, and what tests read.

A query has an intent w, a direction in the plane. Each of its documents has a quality z and two aspects v, and is relevant by

    u = sqrt(1 - dependence) z + sqrt(dependence) w . v + noise e                       z, v, e standard normal

cut into levels, of which the low ones are the common ones. What is seen of a document is z, v, two hints at the intent,
w + HINT_NOISE times standard normal, and features that mean nothing. One document's hints say little about w; those of all
documents together say much: whoever sees the whole list knows which aspects are wanted, whoever sees one document has to guess.
This is the part of the relevance that `dependence` measures, from 0 (nothing: documents can be judged one by one) to 1 (all of it).
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from limbeck.envs.ranking.svmlight import Documents
from limbeck.errors import LimbeckError

TELLING = 5
"""features that mean something: quality, two aspects, two hints"""
HINT_NOISE = 2.0


def generate(queries: int, documents: int, features: int, levels: int, noise: float, dependence: float, seed: int) -> Documents:
    """`queries` queries of `documents` documents each; labels from 0 to `levels` - 1. The same seed gives the same documents.

    Args:
        queries: how many.
        documents: of each query.
        features: numbers per document, at least `TELLING`.
        levels: of relevance, at least 2. Each is half as common as the one below it.
        noise: how far those who judged relevance were off.
        dependence: from 0 to 1, the share of the relevance that depends on the intent.
        seed: of all chance.
    """
    chance = np.random.default_rng(seed)
    size = (queries, documents)
    angle = chance.uniform(0, 2 * np.pi, queries)
    intent = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None]
    quality, aspects = chance.normal(size=(*size, 1)), chance.normal(size=(*size, 2))
    hints = intent + HINT_NOISE * chance.normal(size=(*size, 2))
    relevance = (1 - dependence) ** 0.5 * quality[..., 0] + dependence**0.5 * (intent * aspects).sum(-1)
    relevance += noise * chance.normal(size=size)
    seen = np.concatenate([quality, aspects, hints, chance.normal(size=(*size, features - TELLING))], axis=-1)
    labels = np.searchsorted(_cuts(levels) * (1 + noise**2) ** 0.5, relevance)
    return Documents(
        np.repeat(np.arange(1, queries + 1), documents),
        labels.reshape(-1).astype(np.int32),
        seen.reshape(-1, features).astype(np.float32),
    )


def _cuts(levels: int) -> Float[np.ndarray, "L-1"]:
    """Where a standard normal number passes from one level to the next."""
    common = 0.5 ** np.arange(levels)
    below = (common.cumsum() / common.sum())[:-1]
    return np.array([NormalDist().inv_cdf(share) for share in below])


def write(path: str | Path, found: Documents) -> None:
    """A file in the form that `files.read` reads: one line per document, features numbered from 1.

    Raises:
        LimbeckError: it cannot be written.
    """
    try:
        with open(path, "w", encoding="ascii") as file:
            file.writelines(_lines(found))
    except OSError as error:
        raise LimbeckError(f"cannot write {path}: {error.strerror}") from error


def _lines(found: Documents) -> Iterator[str]:
    numbers = np.arange(1, found.features.shape[1] + 1)
    for query, label, values in zip(found.queries, found.labels, found.features, strict=True):
        kept = ~np.isnan(values)
        shown = " ".join(f"{n}:{value!r}" for n, value in zip(numbers[kept], values[kept].tolist(), strict=True))
        yield f"{label} qid:{query} {shown}\n"
