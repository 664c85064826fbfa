"""How good a ranking is: NDCG, MRR and ERR of one list of documents, pure and inside jit. `vmap` them over queries.

Documents are ranked by falling score. Documents of equal score stand in every order as often: each measure is its mean over those
orders, worked out exactly (for NDCG after McSherry and Najork, ECIR 2008). So the order in which documents are handed over never
matters, and whoever scores all of them alike gets what a shuffle would get. Documents that are not `present` are not ranked at all.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from limbeck.errors import unknown

Scores = Float[Array, "D"] | Int[Array, "D"]

GAINS: dict[str, Callable[[Array], Array]] = {
    "exponential": lambda labels: jnp.exp2(labels.astype(jnp.float32)) - 1.0,
    "linear": lambda labels: labels.astype(jnp.float32),
}
"""what a document of a relevance label is worth: 2^label - 1, as nearly all papers on learning to rank have it, or the label"""


def ndcg(
    scores: Scores,
    labels: Int[Array, "D"],
    present: Bool[Array, "D"] | None = None,
    k: int | None = None,
    gain: str = "exponential",
) -> Float[Array, ""]:
    """DCG over the best DCG that the list allows, from 0 to 1; 0 if no document is relevant.

    Args:
        scores: of D documents.
        labels: theirs: 0 for what is not relevant, and whole numbers above.
        present: which documents there are; None: all.
        k: places that count; None: all.
        gain: exponential or linear.

    Raises:
        UnknownName: there is no such gain.
    """
    best = dcg(labels, labels, present, k, gain)
    return dcg(scores, labels, present, k, gain) / jnp.where(best > 0, best, 1.0)


def dcg(
    scores: Scores,
    labels: Int[Array, "D"],
    present: Bool[Array, "D"] | None = None,
    k: int | None = None,
    gain: str = "exponential",
) -> Float[Array, ""]:
    """Discounted cumulative gain, sum over the first k places p of gain / log2(1 + p). Arguments as in `ndcg`."""
    if gain not in GAINS:
        raise unknown("gain", gain, GAINS)
    n = len(labels)
    place = np.arange(1, n + 1)
    discounts = np.where(place <= (n if k is None else k), 1 / np.log2(1 + place), 0.0)
    reached = jnp.asarray(np.append(0.0, discounts.cumsum()), jnp.float32)
    above, tied = _standing(scores, present)
    discount = (reached[above + tied] - reached[above]) / jnp.maximum(tied, 1)
    return (GAINS[gain](labels) * discount).sum()


def mrr(scores: Scores, labels: Int[Array, "D"], present: Bool[Array, "D"] | None = None, relevant: int = 1) -> Float[Array, ""]:
    """1 over the place of the first document whose label is at least `relevant`; 0 if there is none."""
    return _cascade(scores, (labels >= relevant).astype(jnp.float32), present)


def err(scores: Scores, labels: Int[Array, "D"], present: Bool[Array, "D"] | None = None, best: int = 4) -> Float[Array, ""]:
    """Expected reciprocal rank (Chapelle et al., CIKM 2009): the mean of 1 over the place where a reader is content, who reads from
    the top and is content with a document with probability (2^label - 1) / 2^best. `best` is the highest label of the data.
    """
    return _cascade(scores, GAINS["exponential"](labels) / 2.0**best, present)


def _standing(scores: Scores, present: Bool[Array, "D"] | None) -> tuple[Int[Array, "D"], Int[Array, "D"]]:
    """For each document, how many stand above it, and how many share its score, itself among them. Of an absent one: 0, 0."""
    ranked = jnp.ones(len(scores), bool) if present is None else present
    both = ranked[:, None] & ranked[None]
    above = (both & (scores[None] > scores[:, None])).sum(-1)
    return above, (both & (scores[None] == scores[:, None])).sum(-1)


def _cascade(scores: Scores, stops: Float[Array, "D"], present: Bool[Array, "D"] | None) -> Float[Array, ""]:
    """The mean of 1 / (place where a reader stops), who reads from the top and stops at a document with probability `stops`.

    Who gets past place p has got past all documents above p's group of equal scores, and past j of that group's g documents, any j
    of them as likely: the mean of that is the j-th elementary symmetric polynomial of their 1 - stops, over g choose j.
    """
    n = len(stops)
    ranked = jnp.ones(n, bool) if present is None else present
    passes = jnp.where(ranked, 1.0 - stops, 1.0)
    above, tied = _standing(scores, present)
    place = jnp.arange(1, n + 1)
    # The document that speaks for the group at each place: one with as many above it as there is room for.
    at = ranked[None] & (above[None] < place[:, None]) & (place[:, None] <= (above + tied)[None])
    group = at.argmax(-1)
    before = jnp.where((scores[None] > scores[group][:, None]) & ranked[None], passes[None], 1.0).prod(-1)
    inside = place - above[group]

    def take(sums: Array, each: tuple[Array, Array]) -> tuple[Array, None]:
        member, passed = each  # [P], []
        longer = jnp.pad(sums[:, :-1], ((0, 0), (1, 0)))
        return sums + member[:, None] * passed * longer, None

    one = jnp.zeros((n, n + 1)).at[:, 0].set(1.0)
    sums, _ = jax.lax.scan(take, one, (at.T.astype(jnp.float32), passes))
    choices = jnp.asarray([[math.comb(g, j) for j in range(n + 1)] for g in range(n + 1)], jnp.float32)
    share = jnp.take_along_axis(sums, inside[:, None], axis=1)[:, 0] / jnp.maximum(choices[tied[group], inside], 1.0)
    past = jnp.where(at.any(-1), before * share, passes.prod())
    return ((jnp.append(1.0, past[:-1]) - past) / place).sum()
