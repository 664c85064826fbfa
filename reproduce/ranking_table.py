"""Learning to rank: a ranker that judges documents one by one, LambdaMART, QMIX, and PTDE's teacher and student.

python reproduce/ranking_table.py            about 25 minutes on two cores; runs that are there are not repeated

LambdaMART needs `pip install limbeck[ranking]`. All figures are about test queries, which nobody learned from.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import campaign
import jax
import numpy as np
from rich.console import Console

from limbeck import runs
from limbeck.envs import registry
from limbeck.envs.ranking import Ranking
from limbeck.envs.ranking.judge import judge, measure
from limbeck.envs.ranking.lists import Lists
from limbeck.errors import LimbeckError
from limbeck.runs import RunConfig

MEASURES = ("NDCG@1", "NDCG@3", "NDCG@5", "NDCG@10", "MRR")


@dataclasses.dataclass(frozen=True)
class Options(campaign.Seeds):
    """What the reproduction can be told."""

    out: str = "runs/ranking_table"
    steps: int = 800_000
    """queries shown to QMIX and to the teacher"""
    updates: int = 20_000
    """gradient steps of the student"""
    worlds: int = 128
    mixer: str = "qmix"
    hidden: int = 32
    """units of the agents, and size of the teacher's latent"""
    dependence: float = 0.7
    """share of the relevance that only the whole list tells"""
    lambdamart: bool = True
    """needs lightgbm"""


def main(options: Options) -> None:
    console = Console()
    rankers = RANKERS if options.lambdamart else {name: each for name, each in RANKERS.items() if each is not lambdamart}
    found: dict[str, list[dict[str, float]]] = {}
    for seed in options.every_seed:
        world = {"dependence": options.dependence, "seed": seed}
        env = registry.make("ranking/synthetic", **world)
        for name, fit in rankers.items():
            test = env.held_out("test").lists
            found.setdefault(name, []).append(measure(fit(env.lists, test, seed), test))
        for name, row in learned(world, seed, options, console).items():
            found.setdefault(name, []).append(row)
    rows = [[name, *(campaign.cell([100 * each[m] for each in seeds], 1) for m in MEASURES)] for name, seeds in found.items()]
    text = campaign.markdown(["ranker", *(f"{m}, %" for m in MEASURES)], rows)
    campaign.write(options.page, text, "ranking", console)


def learned(world: dict[str, Any], seed: int, options: Options, console: Console) -> dict[str, dict[str, float]]:
    """QMIX, the teacher and its student."""
    shared = {
        **{"mixer": options.mixer, "hidden": options.hidden, "segment": 1, "batch": 128, "buffer": 100_000, "updates": 2},
        **{"lr": 2e-3, "eps_steps": options.steps // 6, "target_every": 200},
    }
    run = {"env": "ranking/synthetic", "env_settings": world, "seed": seed, "worlds": options.worlds, "evaluations": 4}
    folder = Path(options.out)
    teacher = folder / f"teacher-{seed}"
    configs = {
        "QMIX, each document by itself": RunConfig("qmix", settings=shared, steps=options.steps, **run),
        "PTDE teacher, sees all documents": RunConfig(
            "ptde", settings=shared | {"latent": options.hidden}, steps=options.steps, **run
        ),
    }
    paths = dict(zip(configs, (folder / f"qmix-{seed}", teacher), strict=True))
    rows = {name: judged(config, paths[name], console) for name, config in configs.items()}
    student = runs.of_student(teacher, settings={"updates": options.updates}, seed=seed, worlds=options.worlds, evaluations=4)
    return rows | {"PTDE student, each document by itself": judged(student, folder / f"student-{seed}", console)}


def judged(config: RunConfig, path: Path, console: Console) -> dict[str, float]:
    """The measures of a run's main policy over all test lists."""
    kept = path / "measures.json"
    if not kept.exists():
        campaign.played(config, path, 256, console)
        run, env = runs.load(path), runs.make_env(config)
        assert isinstance(env, Ranking)
        kept.write_text(json.dumps(judge(env, *run.policy(), jax.random.key(config.seed))))
    return json.loads(kept.read_text())


# -- rankers that are no agents --------------------------------------------------------------------------------------------


def shuffled(train: Lists, test: Lists, seed: int) -> np.ndarray:
    """Scores without a reason."""
    return np.random.default_rng(seed).random(test.labels.shape).astype(np.float32)


def pointwise(train: Lists, test: Lists, seed: int) -> np.ndarray:
    """Regression of gains on the features of one document and their products."""
    x, y = polynomial(train.features[train.present]), 2.0 ** train.labels[train.present] - 1
    ridge = 1e-3 * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + ridge, x.T @ y)
    return (polynomial(test.features) @ weights).astype(np.float32)


def polynomial(features: np.ndarray) -> np.ndarray:
    """1, the features, and the products of any two."""
    rows, columns = np.triu_indices(features.shape[-1])
    one = np.ones((*features.shape[:-1], 1))
    return np.concatenate([one, features, features[..., rows] * features[..., columns]], axis=-1)


def lambdamart(train: Lists, test: Lists, seed: int) -> np.ndarray:
    """Trees boosted on the gradients of NDCG, of which each judges one document."""
    try:
        import lightgbm
    except ImportError as error:
        raise LimbeckError(
            "LambdaMART needs lightgbm: pip install 'limbeck[ranking]', or leave it out with --no-lambdamart"
        ) from error
    data = lightgbm.Dataset(train.features[train.present], train.labels[train.present], group=train.present.sum(1))
    settings = {"objective": "lambdarank", "learning_rate": 0.05, "num_leaves": 31, "seed": seed, "num_threads": 2, "verbose": -1}
    ranker = lightgbm.train(settings, data, num_boost_round=200)
    scores = np.zeros(test.labels.shape, np.float32)
    scores[test.present] = np.asarray(ranker.predict(test.features[test.present]))
    return scores


RANKERS: dict[str, Callable[[Lists, Lists, int], np.ndarray]] = {
    "*at random*": shuffled,
    "regression, each document by itself": pointwise,
    "LambdaMART, each document by itself": lambdamart,
}


if __name__ == "__main__":
    campaign.start(main, Options)
