"""Three teams of hunters that follow a script, as anchors for tables of predator and prey: what a learner should leave behind.

    table = evaluate(env, {**baselines(env), "qmix": trained})

All three see only what the agents see. `random` does anything that is available. `eager` catches whenever that is available, and
does anything else otherwise. `careful` catches when another agent is beside the same prey, and does anything else otherwise: it
needs a view of 5 cells. The careful ones neither wait for a partner nor look for one, so much remains to be learnt.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from limbeck.envs.predator_prey import CATCH, CHANNELS, COMPASS, HUNTERS, PredatorPrey
from limbeck.errors import BadSetting
from limbeck.types import Decision, Policy

WIDEST = 2
"""cells between two agents beside the same prey"""


def baselines(env: PredatorPrey) -> dict[str, tuple[Policy, PyTree]]:
    """The scripts by name, ready for `evaluate`; they have no parameters.

    Raises:
        BadSetting: the agents do not see far enough for `careful`.
    """
    if env.view // 2 < WIDEST:
        raise BadSetting(f"whoever hunts with care needs a view of at least {2 * WIDEST + 1}, not {env.view}")
    agents, prey = _beside(env.view)

    def never(decision: Decision) -> Array:
        return jnp.zeros_like(decision.alive)

    def always(decision: Decision) -> Array:
        return decision.avail_actions[..., CATCH]

    def together(decision: Decision) -> Array:
        return ((decision.obs @ prey > 0) & (decision.obs @ agents >= HUNTERS)).any(axis=-1)

    scripts = {"random": (never, True), "eager": (always, False), "careful": (together, False)}
    return {name: (_policy(*script), {}) for name, script in scripts.items()}


def _beside(view: int) -> tuple[Float[np.ndarray, "O 4"], Float[np.ndarray, "O 4"]]:
    """For each cell beside the agent: where its observation has those agents who are beside that cell, and a prey in that cell."""
    agents, prey = np.zeros((2, view, view, CHANNELS, len(COMPASS)), np.float32)
    for i, cell in enumerate(COMPASS + view // 2):
        prey[(*cell, 1, i)] = 1
        for row, column in cell + COMPASS:
            agents[row, column, 0, i] = 1
    return agents.reshape(-1, len(COMPASS)), prey.reshape(-1, len(COMPASS))


def _policy(catches: Callable[[Decision], Array], at_random: bool) -> Policy:
    """Who catches where `catches(decision)` says so, and does anything else otherwise: a catch too, if that is `at_random`."""

    def act(params: PyTree, carry: PyTree, decision: Decision, key: Array, explore: Array) -> tuple[Array, PyTree]:
        others: Bool[Array, "B N A"] = decision.avail_actions
        if not at_random:
            others = others.at[..., CATCH].set(False)
        anything = jax.random.categorical(key, jnp.where(others, 0.0, -jnp.inf))
        return jnp.where(catches(decision), CATCH, anything).astype(jnp.int32), carry

    return Policy(act, ("obs", "avail_actions", "alive"), lambda params: params, lambda worlds: ())
