"""The measures of a ranker over held-out lists, each of which counts once: a policy's, or any scores'."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from limbeck.envs.ranking import metrics
from limbeck.envs.ranking.lists import Lists
from limbeck.envs.ranking.world import Ranking, RankingState
from limbeck.types import Decision, Policy

CUTOFFS = (1, 3, 5, 10)
TOGETHER = 256
"""lists that are scored at a time"""


def judge(env: Ranking, policy: Policy, params: PyTree, key: PRNGKeyArray | None = None) -> dict[str, float]:
    """The mean of each measure over all test lists; over the world's own lists, if these are held out already."""
    world = env.held_out("test")
    return measure(scores_of(world, policy, params, key), world.lists, world.gain)


def scores_of(env: Ranking, policy: Policy, params: PyTree, key: PRNGKeyArray | None = None) -> Int[np.ndarray, "Q N"]:
    """The scores that a policy gives, without exploring, to every list that the world draws from."""
    start, count = jax.random.key(0) if key is None else key, len(env.lists.queries)
    size = min(TOGETHER, count)

    @jax.jit
    def act(params: PyTree, index: Int[Array, "B"], key: PRNGKeyArray) -> Int[Array, "B N"]:
        seen = jax.vmap(env.observe)(RankingState(index))
        nothing = jnp.full((size, env.spec.n_agents), -1, jnp.int32)
        decision = Decision.about(seen, nothing, jnp.ones(size, bool)).within(policy.view)
        return policy.act(params, policy.init_carry(size), decision, key, jnp.float32(0))[0]

    firsts = range(0, count, size)
    keys = jax.random.split(start, len(firsts))
    found = [act(params, jnp.asarray(np.arange(i, i + size) % count), k) for i, k in zip(firsts, keys, strict=True)]
    return np.concatenate(found)[:count]


def measure(scores: Int[np.ndarray, "Q N"] | Float[np.ndarray, "Q N"], lists: Lists, gain: str = "exponential") -> dict[str, float]:
    """The mean of each measure over lists. Labels are taken to go as high as 4, for ERR."""
    return {name: float(each.mean()) for name, each in _each(scores, lists.labels, lists.present, gain).items()}


@partial(jax.jit, static_argnames="gain")
def _each(scores: Array, labels: Array, present: Array, gain: str) -> dict[str, Float[Array, "Q"]]:
    measures = {f"NDCG@{k}": partial(metrics.ndcg, k=k, gain=gain) for k in CUTOFFS} | {"MRR": metrics.mrr, "ERR": metrics.err}
    return {name: jax.vmap(each)(scores, labels, present) for name, each in measures.items()}
