"""Every base on every game with a known optimum, for docs/matrix_games.md and for the curious.

Run by `python reproduce/probe_table.py`, about twenty minutes on two cores.
"""

import dataclasses

import campaign
import jax
from rich.console import Console

from limbeck.envs.probe import WORLDS
from limbeck.errors import NotOffered
from limbeck.evaluate import evaluator
from limbeck.methods import METHODS
from limbeck.methods.bases import BASES, build
from limbeck.train import train

STEPS = {"matrix": 24_000, "nonmonotonic": 24_000, "decoys": 24_000, "switch": 120_000, "lever": 30_000, "whisper": 60_000}
STEPS |= {"timeout": 24_000, "hunt": 80_000}
SETTINGS = {
    **{"hidden": 16, "embed": 8, "hyper": 16, "segment": 8, "batch": 16, "buffer": 2000, "eps_steps": 10_000, "lr": 3e-3},
    **{"target_every": 20, "gamma": 0.95, "td_lambda": 0.6, "updates": 4},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the reproduction can be told."""

    games: tuple[str, ...] = tuple(STEPS)
    methods: tuple[str, ...] = tuple(BASES)
    seeds: int = 2
    page: str | None = None
    """a page (docs/matrix_games.md) between whose markers the table goes; None: print it only"""


def main(options: Options) -> None:
    console = Console()
    head = ["game", "best possible", "best for local agents", *options.methods]
    rows = []
    for game in options.games:
        env = WORLDS[game]()
        row = [game, f"{env.optimum:.2f}", f"{env.local_optimum:.2f}"]
        for method in options.methods:
            row.append(", ".join(returns(game, method, seed) for seed in range(options.seeds)))
            console.print(game, method, row[-1], highlight=False)
        rows.append(row)
    campaign.write(options.page, campaign.markdown(head, rows), "probes", console)


def returns(game: str, method: str, seed: int) -> str:
    """Mean return of 512 greedy episodes after learning."""
    env = WORLDS[game]()
    settings = dataclasses.replace(METHODS[method].settings, **(SETTINGS | BASES[method].defaults))
    try:
        algorithm = build(env.spec, settings)
    except NotOffered:
        return "needs unit slots"
    trained = train(env, algorithm, steps=STEPS[game], seed=seed, worlds=16, devices=1)
    found = evaluator(env, algorithm.policies["greedy"], 512)(trained.params, jax.random.key(7))
    return f"{found.returns.mean():.2f}"


if __name__ == "__main__":
    campaign.start(main, Options)
