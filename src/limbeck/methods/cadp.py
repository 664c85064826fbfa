"""CADP: centralised advising, decentralised pruning (Zhou et al., arXiv 2305.17352).

The agents learn with each other's advice, and then to do without it. Communication is attention among them (`nets/advising.py`);
the teacher acts by what it hears and is trained by any mixer's loss. From `prune_after` steps on, its attention is drawn to the
identity, where everybody listens to oneself alone:

    L_prune = mean over heads, i and j of KL(I || A)  =  sum over heads and i of -log A_ii / (heads n^2)
    L       = L_TD + prune_weight L_prune / 2

The student is the same network with its own value vector in place of what it would hear: at A = I, the two are equal. No separate
distillation follows; both are judged, and the student, which needs nobody, comes first. Before pruning its values are those of a
network that was never trained to be alone.

Published: everything above, in numbers 4 heads of 32, a weight of 0.5 (1 with QPLEX), pruning over the last third of 1.05M steps,
Adam at 5e-4. Their TD loss is the squared error and ours a half of it, so the half stands before their weight as well. Ours: dead
agents are not listened to, and their rows and columns are no entries of the mean.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from limbeck.methods.bases import learn_on_base
from limbeck.methods.q_learning import QParams, QSettings
from limbeck.nets.advising import AdvisedAgent
from limbeck.nets.greedy import q_policy, start_of
from limbeck.types import LOCAL, PRIVILEGED, Algorithm, EnvSpec, Segment

EPSILON = 1e-8
"""added to attention before the logarithm (authors' code)"""


@dataclass(frozen=True)
class CADPSettings(QSettings):
    """Q-learning's settings, and those of advising and pruning."""

    head_width: int = 32
    """size of a query, a key and a value in each of the 4 heads"""
    prune_after: int = 670_000
    """environment steps before pruning begins: two thirds of the run's steps, which this has to follow"""
    prune_weight: float = 0.5
    """weight of the pruning loss beside the squared TD error (published: 1.0 with QPLEX)"""


def build(spec: EnvSpec, settings: CADPSettings = CADPSettings(), **changes: Any) -> Algorithm:
    """CADP on any mixer. `changes` replace single settings, such as `prune_after=100_000`.

    Raises:
        UnknownName: there is no such mixer.
        NotOffered: the mixer reads what the world does not have.
    """
    settings = replace(settings, **changes)

    def make_agent(key: PRNGKeyArray) -> AdvisedAgent:
        return AdvisedAgent(spec, settings.hidden, settings.head_width, key)

    def prune(params: QParams, segment: Segment, key: PRNGKeyArray, steps: Array) -> tuple[Array, dict[str, Array]]:
        alive = segment.decisions.alive
        agent: Any = params.agent
        attention = agent.attention(segment.decisions)
        loss = pruning_loss(attention, alive)
        weight = jnp.where(steps >= settings.prune_after, settings.prune_weight, 0.0)
        return 0.5 * weight * loss, {"pruning": loss, "own_attention": own_attention(attention, alive)}

    init_carry = start_of(spec, settings.hidden)
    policies = {
        "student": q_policy(lambda params: params.agent.alone, LOCAL, init_carry),
        # It does not look at the state, but at what all agents observe: no view for execution.
        "teacher": q_policy(lambda params: params.agent, PRIVILEGED, init_carry),
    }
    return replace(learn_on_base(spec, settings, make_agent, PRIVILEGED, prune), policies=policies)


def pruning_loss(attention: Float[Array, "*b heads N N"], alive: Bool[Array, "*b N"]) -> Float[Array, ""]:
    """KL(I || A), as a mean over the entries among living agents at each decision, and over decisions."""
    living = alive.astype(jnp.float32)
    apart = (-jnp.log(_diagonal(attention) + EPSILON)).mean(-2) * living  # of I log I nothing remains
    return (apart.sum(-1) / jnp.maximum(living.sum(-1), 1.0) ** 2).mean()


def own_attention(attention: Float[Array, "*b heads N N"], alive: Bool[Array, "*b N"]) -> Float[Array, ""]:
    """How much of its attention a living agent gives to itself: 1 when pruning has come to its end."""
    living = alive.astype(jnp.float32)
    return (_diagonal(attention).mean(-2) * living).sum() / jnp.maximum(living.sum(), 1.0)


def _diagonal(attention: Float[Array, "*b heads N N"]) -> Float[Array, "*b heads N"]:
    return jnp.diagonal(attention, axis1=-2, axis2=-1)
