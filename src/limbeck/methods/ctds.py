"""CTDS: centralised teacher, decentralised student (Zhao et al. 2022; IEEE Transactions on Games 16(1)).

    teacher   PyMARL's agent on what it would see if nothing were hidden (`full_obs`), trained by any mixer's loss; it plays
    student   PyMARL's agent on what it does see; on the same batches
    L_KD      sum over agents and actions of (Q_S(tau_i, a) - Q_T(tau_i, a))^2, mean over decisions

Each has its own optimiser; the teacher gets no gradient from the student. The authors' code restricts sight to 2 (of 9), which
makes partial observability matter: `--env-set sight_range=2`. It counts dead agents and actions that are not available; `faithful`
does so, by default they are left out. The preset `paper` is its recipe.
"""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Array, PRNGKeyArray

from limbeck.distil import Student, match_q, over_agents, shows_everything, together
from limbeck.methods.bases import learn_on_base
from limbeck.methods.q_learning import PRESETS, QSettings, optimiser_of
from limbeck.nets.agents import RecurrentAgent
from limbeck.nets.unroll import Values
from limbeck.types import FULL, Algorithm, Decision, EnvSpec


@dataclass(frozen=True)
class CTDSSettings(QSettings):
    """Q-learning's settings, which are the teacher's, and the student's."""

    student_lr: float = 1e-3
    """step size of the student's optimiser, which is of the teacher's kind"""
    faithful: bool = False
    """count dead agents and unavailable actions in the student's loss, as the authors' code does"""


PAPER = PRESETS["pymarl"] | {"student_lr": 5e-4, "faithful": True}
"""RMSprop at 5e-4 for both, one-step targets, one world, 2.05M steps"""


def build(spec: EnvSpec, settings: CTDSSettings = CTDSSettings(), **changes: Any) -> Algorithm:
    """CTDS on any mixer. `changes` replace single settings.

    Raises:
        UnknownName: there is no such mixer.
        NotOffered: the world does not show everything, or the mixer reads what it does not have.
    """
    settings = replace(settings, **changes)
    shows_everything(spec, "CTDS's teacher")
    hidden = settings.hidden
    teacher = learn_on_base(spec, settings, lambda key: RecurrentAgent(spec, hidden, key, ("full_obs",)), FULL)

    def make(key: PRNGKeyArray) -> RecurrentAgent:
        return RecurrentAgent(spec, hidden, key)

    def match(own: Values, taught: Values, seen: Decision) -> tuple[Array, dict[str, Array]]:
        error = match_q(own.q, taught.q, None if settings.faithful else seen.avail_actions)
        return over_agents(error, seen.alive | settings.faithful, mean=False), {}

    optimiser = optimiser_of(settings, settings.optimiser, settings.student_lr)
    return together(spec, teacher, Student(make, match, optimiser))
