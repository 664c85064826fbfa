"""IGM-DA: rethinking IGM, by imitation (Hong, Jin and Tang, NeurIPS 2022, arXiv 2209.09640).

    expert    PyMARL's agent on what it would see if nothing were hidden (`full_obs`): Q_E, trained by any mixer's loss
    learner   PyMARL's agent on what it does see and which actions are available: Q_L
    y         r + gamma Q_tot^E-(s', argmax Q_L)            the expert's return, if the learner acts from there on
    L_IL      mean over agents and actions of (Q_L(tau_i, a) - 1[a = argmax_u Q_E(u)])^2
    L         L_TD + L_IL

`variant="dagger"` is IGM-DA proper: the learner plays, and the expert says what it would have done (DAgger, Ross et al. 2011). In
`variant="bc"`, behaviour cloning, the expert plays and its own actions follow in y.

The authors take all sight from the agents, who observe themselves alone: `--env-set sight_range=1e-10`. The preset `paper` is their
recipe. Their TD loss is the squared error, one-step; ours here is half of it, so L_IL weighs one half as well. They count dead
agents and unavailable actions in L_IL; `faithful` does so, by default they are left out. The expert does not see the mask, as in
their code.
"""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Array, PRNGKeyArray

from limbeck.distil import Student, match_action, over_agents, shows_everything, together
from limbeck.errors import unknown
from limbeck.methods.bases import learn_on_base
from limbeck.methods.q_learning import PRESETS, QSettings
from limbeck.nets.agents import RecurrentAgent
from limbeck.nets.unroll import Values
from limbeck.types import FULL, Algorithm, Decision, EnvSpec

VARIANTS = ("dagger", "bc")
SEES = ("obs", "avail_actions")


@dataclass(frozen=True)
class IGMDASettings(QSettings):
    """Q-learning's settings, and how the learner imitates."""

    variant: str = "dagger"
    """dagger: the learner plays; bc (behaviour cloning): the expert does"""
    imitation_weight: float = 0.5
    """of L_IL beside half the squared TD error: 0.5 is the paper's 1 beside the whole"""
    faithful: bool = False
    """count dead agents and unavailable actions in L_IL, as the authors' code does"""


PAPER = PRESETS["pymarl"] | {"eps_end": 0.1, "faithful": True}
"""RMSprop at 5e-4, one-step targets, eps down to 0.1, one world, 2M steps"""


def build(spec: EnvSpec, settings: IGMDASettings = IGMDASettings(), **changes: Any) -> Algorithm:
    """IGM-DA on any mixer. `changes` replace single settings, such as `variant="bc"`.

    Raises:
        UnknownName: there is no such variant or mixer.
        NotOffered: the world does not show everything, or the mixer reads what it does not have.
    """
    settings = replace(settings, **changes)
    if settings.variant not in VARIANTS:
        raise unknown("variant", settings.variant, VARIANTS)
    shows_everything(spec, "IGM-DA's expert")
    hidden = settings.hidden
    expert = learn_on_base(spec, settings, lambda key: RecurrentAgent(spec, hidden, key, ("full_obs",)), FULL)

    def make(key: PRNGKeyArray) -> RecurrentAgent:
        return RecurrentAgent(spec, hidden, key, SEES)

    def match(own: Values, taught: Values, seen: Decision) -> tuple[Array, dict[str, Array]]:
        error = match_action(own.q, taught.q, seen.avail_actions, only_available=not settings.faithful)
        return settings.imitation_weight * over_agents(error, seen.alive | settings.faithful), {}

    dagger = settings.variant == "dagger"
    learner = Student(make, match, expert.optimiser, collects="student" if dagger else "teacher", chooses=dagger)
    return together(spec, expert, learner)
