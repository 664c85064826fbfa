"""CSRL: a Commander that says to every Soldier what the whole means for it (Chen et al., IJCNN 2022).

A virtual Commander reads the global state every `interval` steps; a Policy Guidance Network makes of it, from the Soldier's own
observation, what this Soldier is told:

    x_i = [o_i, last action, i]      z_i = ELU(s W(x_i) + b(x_i))      Q_i = Linear([ReLU(Linear(h_i)), z_i])

Only the abstract of the paper could be read. What stands here is what PTDE's authors compare themselves with: their hypernetwork,
without a distribution around its result, trained end to end by the mixer's loss. In their code z_i is new at every step, which is
the default; to speak every `interval` steps is the paper's idea, to hold z_i unchanged in between our resolution. There
is no student: the Commander speaks in execution as well.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from limbeck.methods.bases import learn_on_base
from limbeck.methods.q_learning import QSettings
from limbeck.nets.agents import local_dim
from limbeck.nets.broadcast import Broadcast
from limbeck.nets.fusion import StateHypernetwork
from limbeck.nets.personalise import DirectLatent, PersonalisedAgent
from limbeck.types import PRIVILEGED, Algorithm, EnvSpec


@dataclass(frozen=True)
class CSRLSettings(QSettings):
    """Q-learning's settings, and the Commander's."""

    latent: int = 64
    """size of z"""
    interval: int = 1
    """steps between two words of the Commander (1: at every step, as PTDE's authors ran it)"""


def build(spec: EnvSpec, settings: CSRLSettings = CSRLSettings(), **changes: Any) -> Algorithm:
    """CSRL on any mixer. `changes` replace single settings, such as `interval=4`.

    Raises:
        UnknownName: there is no such mixer.
        NotOffered: the mixer reads what the world does not have.
        BadSetting: an interval that makes no sense.
    """
    settings = replace(settings, **changes)

    def make_agent(key: PRNGKeyArray) -> PersonalisedAgent | Broadcast:
        key_latent, key_agent = jax.random.split(key)
        commander = StateHypernetwork(local_dim(spec), spec.state_dim, settings.hidden, settings.latent, key_latent)
        agent = PersonalisedAgent(spec, settings.hidden, settings.latent, DirectLatent(commander), key_agent)
        return agent if settings.interval == 1 else Broadcast(agent, settings.interval)

    return learn_on_base(spec, settings, make_agent, PRIVILEGED)
