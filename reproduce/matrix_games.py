"""What every base learns of the matrix games of the literature from uniformly random play, as docs/matrix_games.md shows it.

    python reproduce/matrix_games.py                   about ten minutes on two cores, more on busy ones

The recipe is that of QPLEX's authors for these games: RMSprop at 5e-4, batches of 32, random play throughout.
"""

import dataclasses
import itertools
from typing import Any

import campaign
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from limbeck.envs.probe import GAMES, Matrix
from limbeck.learn import Learner
from limbeck.methods.bases import BASES, build
from limbeck.methods.q_learning import Carried, QParams, QSettings, Values, joint
from limbeck.nets.unroll import decide
from limbeck.types import Algorithm, Decision

RECIPE: dict[str, Any] = {
    **{"optimiser": "rmsprop", "lr": 5e-4, "eps_start": 1.0, "eps_end": 1.0, "td_lambda": 0.0},
    **{"segment": 1, "batch": 32, "buffer": 4096, "updates": 16, "hidden": 32, "kernels": 10, "kernel_layers": 3},
}
WORLDS = 16


@dataclasses.dataclass(frozen=True)
class Learned:
    """The tables that a method has in its head, [action of agent 0, action of agent 1]."""

    q: np.ndarray
    """each agent's values, [agent, action]"""
    q_tot: np.ndarray
    q_joint: np.ndarray | None
    """QTRAN's unrestricted value"""

    @property
    def greedy(self) -> tuple[int, int]:
        """What the agents do."""
        return int(self.q[0].argmax()), int(self.q[1].argmax())


def learn(game: str, mixer: str, seed: int, updates: int, **changes: Any) -> Learned:
    """A base's tables after so many updates."""
    env = Matrix(game)
    algorithm = build(env.spec, QSettings(**(RECIPE | {"mixer": mixer} | changes)))
    learner = Learner(env, algorithm, WORLDS, devices=1)
    state = learner.init(jax.random.key(seed))
    iterations = updates // algorithm.source.updates
    while iterations > 0:
        now = min(iterations, 256)
        state, _ = learner.advance(state, now, learner.phase(int(state.steps)))
        iterations -= now
    return tables(env, algorithm, state.params)


def tables(env: Matrix, algorithm: Algorithm, params: QParams) -> Learned:
    """Every joint action's value at the one decision there is."""
    seen = env.observe(env.reset(jax.random.key(0)))
    decision = jax.tree.map(lambda x: x[None], Decision.about(seen, jnp.full(2, -1), jnp.array(True)))
    carry = algorithm.init_carry(1)
    hidden = carry.agent if isinstance(carry, Carried) else carry
    q, hidden = decide(params.agent, hidden, decision, jax.random.key(0))
    every = jnp.array(list(itertools.product(range(3), repeat=2)))[:, None]  # nine decisions of one world
    nine = jax.tree.map(lambda x: jnp.broadcast_to(x, (9, *x.shape)), (Values(q, hidden), decision))
    asked = joint(nine[0], every, nine[1])
    square = lambda x: np.asarray(x.sum(-1)).reshape(3, 3)  # noqa: E731 (IQL has a value per agent)
    q_joint = square(params.critic(asked)) if hasattr(params.critic, "value") else None
    return Learned(np.asarray(q[0]), square(params.mixer(asked)), q_joint)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the reproduction can be told."""

    games: tuple[str, ...] = ("nonmonotonic", "decoys")
    methods: tuple[str, ...] = tuple(BASES)
    seeds: int = 3
    updates: int = 20_000
    page: str | None = None
    """a page (docs/matrix_games.md) between whose markers the tables go; None: print them only"""


def main(options: Options) -> None:
    console = Console()
    for game in options.games:
        payoff = np.array(GAMES[game])
        head = ["method", "table, first seed", "what the agents do: reward, each seed"]
        rows = [["**the game**", grid(payoff), f"best: {payoff.max():.0f}"]]
        for method in options.methods:
            found = [learn(game, method, seed, options.updates) for seed in range(options.seeds)]
            rewards = ", ".join(f"{payoff[each.greedy]:.0f}" for each in found)
            rows.append([method, grid(found[0].q_tot), rewards])
            if found[0].q_joint is not None:
                rows.append([f"{method}, joint value", grid(found[0].q_joint), ""])
            console.print(f"{game} {method}: {rewards}", highlight=False)
        campaign.write(options.page, campaign.markdown(head, rows), game, console)


def grid(values: np.ndarray) -> str:
    """Three rows in one cell."""
    return "<br>".join(" ".join(f"{x:.1f}" for x in row) for row in values)


if __name__ == "__main__":
    campaign.start(main, Options)
