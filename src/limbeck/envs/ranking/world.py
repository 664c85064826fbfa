"""Learning to rank as a game of one step: documents are agents, actions are scores, the reward is the NDCG of the ranking."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from limbeck.envs.ranking import files, metrics
from limbeck.envs.ranking.generate import TELLING, generate
from limbeck.envs.ranking.lists import LEAST, Lists, Scale, deal, sample
from limbeck.envs.ranking.svmlight import Documents
from limbeck.errors import BadSetting, check_whole, unknown
from limbeck.types import EnvSpec, Observation, Outcome

TRAIN = "train"
GENERATED = {TRAIN: 20_000, "validation": 1000, "test": 2000}
"""queries that are made up for each split"""


class RankingState(NamedTuple):
    """Which list is to be ranked."""

    which: Int[Array, ""]


@dataclass(frozen=True, eq=False)
class Ranking:
    """A list of documents is drawn, every document's agent gives it a score, and the ranking by falling score pays its NDCG.

    That ranking is a game of this kind is said of PTDE (Chen et al., IJCAI 2024), whose section on it could not be read; this
    casting is a reconstruction after MarlRank (CIKM 2019) and MA4DIV (2024). Documents of equal score share their places: the NDCG
    is the mean over their orders.

    An agent sees its document's features; the state is the whole list, for each document whether it is there and its features.
    Where a list is shorter than there are agents, those without a document are dead: they can only give the score 0, which does
    nothing.

    A world draws from one split of the data. Whoever learns, learns on `train`; `evaluate` asks for `held_out()` queries.

    Args:
        name: the world's.
        splits: the lists of every split, which all have the same sizes.
        split: where lists are drawn from.
        scores: how many an agent can choose from (A).
        cutoff: places that count for the reward, k of NDCG@k.
        gain: exponential or linear, see `metrics.GAINS`.
    """

    name: str
    splits: Mapping[str, Lists]
    split: str = TRAIN
    scores: int = 5
    cutoff: int = 10
    gain: str = "exponential"

    def __post_init__(self):
        if self.split not in self.splits:
            raise unknown("split", self.split, self.splits)
        if self.gain not in metrics.GAINS:
            raise unknown("gain", self.gain, metrics.GAINS)
        check_whole(self, scores=2, cutoff=1)

    @property
    def lists(self) -> Lists:
        """What is drawn from."""
        return self.splits[self.split]

    @property
    def spec(self) -> EnvSpec:
        _, n, width = self.lists.features.shape
        return EnvSpec(
            self.name,
            n_agents=n,
            n_actions=self.scores,
            obs_dim=width,
            state_dim=n * (1 + width),
            episode_limit=1,
            state_slots=tuple((i * (1 + width), (i + 1) * (1 + width)) for i in range(n)),
            unit_scale=True,
        )

    def held_out(self, split: str) -> "Ranking":
        """The world of queries that nobody has learned from: those of `split`; or these, if they are held out already."""
        return replace(self, split=split) if self.split == TRAIN else self

    def reset(self, key: PRNGKeyArray) -> RankingState:
        """Any list, each as likely."""
        return RankingState(jax.random.randint(key, (), 0, len(self.lists.labels)))

    def step(self, state: RankingState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[RankingState, Outcome]:
        labels, present = (jnp.asarray(each)[state.which] for each in (self.lists.labels, self.lists.present))
        reward = metrics.ndcg(action, labels, present, self.cutoff, self.gain)
        return state, Outcome(reward, jnp.array(True), jnp.array(False), {"won": jnp.array(False)})

    def observe(self, state: RankingState) -> Observation:
        features, present = (jnp.asarray(each)[state.which] for each in (self.lists.features, self.lists.present))
        whole = jnp.concatenate([present[:, None].astype(jnp.float32), features], axis=1).reshape(-1)
        nothing = jnp.arange(self.scores) == 0
        return Observation(features, whole, present[:, None] | nothing[None], present)


# -- where the lists come from ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RankingSettings:
    """What every world of this family can be told."""

    documents: int = 10
    """agents: documents in a list"""
    scores: int = 5
    """that an agent can give its document"""
    cutoff: int = 10
    """places that count for the reward"""
    gain: str = "exponential"
    """what a label is worth: exponential or linear"""
    split: str = TRAIN
    """the queries that are drawn: train, validation or test"""
    seed: int = 0
    """of the data's chance: of what is made up, and of how documents are dealt into lists"""


@dataclass(frozen=True)
class SyntheticSettings(RankingSettings):
    """What made-up queries can be told."""

    features: int = 8
    """numbers per document, the first five of which mean something"""
    levels: int = 5
    """of relevance"""
    noise: float = 0.1
    """how far those who judged relevance were off"""
    dependence: float = 0.7
    """from 0 to 1: the share of the relevance that only the whole list tells"""


@dataclass(frozen=True)
class RankingFileSettings(RankingSettings):
    """What queries from files can be told."""

    path: str = ""
    """the folder with train.txt, vali.txt and test.txt, or the beginning of such names"""
    form: str = "svmlight"
    """which data set it is: letor, mslr, yahoo, istella, or svmlight: any"""
    lists: int | None = 20_000
    """of each split that are used at most, drawn at random, since all are held in memory several times; none: all"""


def synthetic(**settings: Any) -> Ranking:
    """Made-up queries, see `generate.py`."""
    s = SyntheticSettings(**settings)
    check_whole(s, documents=LEAST, levels=2, features=TELLING, seed=0)
    for name, most in {"noise": math.inf, "dependence": 1.0}.items():
        value = getattr(s, name)
        if not 0 <= value <= most or value == math.inf:
            raise BadSetting(f"{name} is a number from 0{'' if most == math.inf else ' to 1'}, not {value}")
    splits = _generated(s.documents, s.features, s.levels, float(s.noise), float(s.dependence), s.seed)
    return Ranking("ranking/synthetic", splits, s.split, s.scores, s.cutoff, s.gain)


def from_files(path: str, **settings: Any) -> Ranking:
    """Queries from files, see `files.py`.

    Raises:
        BadData: they cannot be read.
    """
    s = RankingFileSettings(path=path, **settings)
    check_whole(s, documents=LEAST, seed=0, **({} if s.lists is None else {"lists": 1}))
    splits = _from_files(s.path, s.form, files.stamps(s.path), s.documents, s.seed, s.lists)
    return Ranking("ranking/files", splits, s.split, s.scores, s.cutoff, s.gain)


@lru_cache(maxsize=8)
def _generated(documents: int, features: int, levels: int, noise: float, dependence: float, seed: int) -> dict[str, Lists]:
    """A run builds its world several times over."""
    found = generate(sum(GENERATED.values()), documents, features, levels, noise, dependence, seed)
    borders = np.cumsum([0, *GENERATED.values()]) * documents
    parts = {split: found.part(*borders[i : i + 2]) for i, split in enumerate(GENERATED)}
    return _dealt(parts, documents, seed)


@lru_cache(maxsize=2)
def _from_files(path: str, form: str, stamps: Any, documents: int, seed: int, lists: int | None) -> dict[str, Lists]:
    """The stamps tell whether files have changed."""
    return {split: sample(found, lists, seed) for split, found in _dealt(files.read_splits(path, form), documents, seed).items()}


def _dealt(parts: Mapping[str, Documents], documents: int, seed: int) -> dict[str, Lists]:
    scale = Scale.of(parts[TRAIN].features)
    return {split: deal(found, scale, documents, seed) for split, found in parts.items()}
