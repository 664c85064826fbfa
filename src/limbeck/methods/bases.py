"""The ways to join agents' values, by name: one line each. PTDE and its kin take any of them as `mixer`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxtyping import PRNGKeyArray

from limbeck.errors import NotOffered, unknown
from limbeck.methods import qtran, wqmix
from limbeck.methods.q_learning import DEFAULTS, OFFERS, Auxiliary, Base, QSettings, q_learning
from limbeck.methods.value_decomposition import td_loss
from limbeck.nets.agents import Agent, RecurrentAgent
from limbeck.nets.mixers import Attention, Duplex, Independent, JointValue, Monotonic, Sum
from limbeck.types import LOCAL, Algorithm, EnvSpec


def _monotonic(spec: EnvSpec, s: QSettings, key: PRNGKeyArray) -> Monotonic:
    return Monotonic(spec, s.embed, s.hyper, key)


def _weighted(summary: str, loss: Any) -> Base:
    def critic(spec: EnvSpec, s: QSettings, width: int, key: PRNGKeyArray) -> wqmix.Central:
        return wqmix.Central(spec, s, key)

    return Base(summary, _monotonic, loss, critic, recurrent_critic=True, needs=("state",))


BASES: dict[str, Base] = {
    "iql": Base("independent Q-learning", lambda spec, s, key: Independent(), td_loss),
    "vdn": Base("sum of the agents' values", lambda spec, s, key: Sum(), td_loss),
    "qmix": Base("monotone mix of the agents' values", _monotonic, td_loss, needs=("state",)),
    "qatten": Base(
        "attention over the agents' values",
        lambda spec, s, key: Attention(spec, s.heads, s.embed, s.hyper, key),
        td_loss,
        needs=("state", "own slots"),
    ),
    "qplex": Base(
        "values and advantages mixed apart: every value that has decentralised greedy actions",
        lambda spec, s, key: Duplex(spec, s.kernels, s.hyper, s.kernel_layers, key),
        td_loss,
        needs=("state",),
    ),
    "ow-qmix": _weighted("QMIX that weighs down what it overestimates", wqmix.optimistic_loss),
    "cw-qmix": _weighted("QMIX that weighs down joint actions that a central value finds bad", wqmix.central_loss),
    "qtran": Base(
        "any joint value, and agents' values bound to it by constraints",
        lambda spec, s, key: Sum(),
        qtran.qtran_loss,
        lambda spec, s, width, key: JointValue(spec, width, s.hyper, key),
        needs=("state",),
        defaults={"td_lambda": 0.0},
    ),
}


def build(spec: EnvSpec, settings: QSettings = DEFAULTS, **changes: Any) -> Algorithm:
    """Local agents on the base that `settings.mixer` names. `changes` replace single settings, such as `mixer="vdn"`.

    Raises:
        UnknownName: there is no such mixer.
        NotOffered: the mixer reads what the world does not have.
    """
    settings = replace(settings, **changes)
    return learn_on_base(spec, settings, lambda key: RecurrentAgent(spec, settings.hidden, key), LOCAL)


def learn_on_base(
    spec: EnvSpec,
    settings: QSettings,
    make_agent: Callable[[PRNGKeyArray], Agent],
    view: tuple[str, ...],
    auxiliary: Auxiliary | None = None,
) -> Algorithm:
    """Q-learning of any agent on the base that `settings.mixer` names.

    Raises:
        UnknownName: there is no such mixer.
        NotOffered: the mixer reads what the world does not have.
    """
    name = settings.mixer
    if name not in BASES:
        raise unknown("mixer", name, BASES)
    for need in BASES[name].needs:
        what, offered = OFFERS[need]
        if not offered(spec):
            fitting = [other for other, base in BASES.items() if all(OFFERS[each][1](spec) for each in base.needs)]
            instead = f"mixers that fit: {', '.join(fitting)}"
            raise NotOffered(f"mixer '{name}' needs {what}, which {spec.name} does not offer", offered, instead)
    return q_learning(spec, settings, BASES[name], make_agent, view, auxiliary)
