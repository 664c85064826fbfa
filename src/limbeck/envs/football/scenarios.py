"""Who stands where when an episode begins, as data. The engine is told through `build_scenario`, as by a file of its own.

Positions are the engine's: x from -1, the team's own goal, to 1, the goal that it attacks, and y from -0.42 to 0.42; for both teams
as they themselves see it, so that the opponent's are mirrored on the pitch. Those of scenarios that come with the game are the
game's (Kurach et al., AAAI 2020). Controllable are the agents alone: where others are too, the engine moves its control about.
"""

import importlib
import sys
import types
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

CLOCK = 1_000_000
"""steps after which the engine would end an episode by itself: never, since the time limit is ours to tell from other ends"""


class Place(NamedTuple):
    """Where a player starts."""

    role: str
    """GK, CB, LB, RB, DM, CM, LM, RM, AM or CF"""
    x: float
    y: float


class Scenario(NamedTuple):
    """The beginning of an episode."""

    ball: tuple[float, float]
    left: tuple[Place, ...]
    """the agents' team, its keeper first"""
    right: tuple[Place, ...]
    agents: tuple[int, ...]
    """which of `left` are agents; the others play by the engine's own rules"""


KEEPER = Place("GK", -1.0, 0.0)

# Three attackers before the penalty area, the middle one with the ball.
_THREE = (KEEPER, Place("CM", 0.6, 0.0), Place("CM", 0.7, 0.2), Place("CM", 0.7, -0.2))

# A counterattack: the four who run, and the six of their team who stay behind.
_RUNNERS = (Place("CM", 0.5, -0.3161), Place("LM", 0.25, -0.1), Place("RM", 0.25, 0.1), Place("CF", 0.35, 0.316102))
_BEHIND = (
    Place("LB", -0.672, -0.19576),
    Place("CB", -0.75, -0.06356),
    Place("CB", -0.75, 0.063559),
    Place("RB", -0.672, 0.19576),
    Place("CM", -0.434, -0.10568),
    Place("CM", -0.434, 0.10568),
)
_BACKS = (Place("CB", -0.4, -0.06356), Place("CB", -0.4, 0.063559))
"""the two who wait for the counterattack where it is hard"""


def _counterattack(first_back: Place) -> Scenario:
    """Eleven against eleven; the scenarios of this kind differ in one central back."""
    right = (
        KEEPER,
        Place("LB", 0.128, -0.19576),
        first_back,
        _BACKS[1],
        Place("RB", 0.128, -0.19576),
        Place("CM", 0.365, -0.10568),
        Place("CM", 0.282, 0.0),
        Place("CM", 0.365, 0.10568),
        Place("LM", 0.54, -0.3161),
        Place("RM", 0.51, 0.0),
        Place("CF", 0.54, 0.316102),
    )
    return Scenario((0.26, -0.11), (KEEPER, *_BEHIND, *_RUNNERS), right, agents=(7, 8, 9, 10))


SCENARIOS: Mapping[str, Scenario] = {
    "academy_3_vs_1_with_keeper": Scenario((0.62, 0.0), _THREE, (KEEPER, Place("CB", -0.75, 0.0)), agents=(1, 2, 3)),
    # Not one of the game's, and where others put the players is not known to us: the one above with a second central back.
    "academy_3_vs_2_with_keeper": Scenario(
        (0.62, 0.0), _THREE, (KEEPER, Place("CB", -0.75, -0.1), Place("CB", -0.75, 0.1)), agents=(1, 2, 3)
    ),
    "academy_counterattack_easy": _counterattack(Place("CB", 0.4, -0.06356)),
    "academy_counterattack_hard": _counterattack(_BACKS[0]),
    # As it is played since CDS (Li et al., NeurIPS 2021): without all who are far away.
    "academy_counterattack_hard_trimmed": Scenario((0.26, -0.11), (KEEPER, *_RUNNERS), (KEEPER, *_BACKS), agents=(1, 2, 3, 4)),
    "academy_run_pass_and_shoot_with_keeper": Scenario(
        (0.7, -0.28), (KEEPER, Place("CB", 0.7, 0.0), Place("CB", 0.7, -0.3)), (KEEPER, Place("CB", -0.75, 0.1)), agents=(1, 2)
    ),
}


def level_of(name: str) -> str:
    """The name under which the engine finds the scenario `name`: a module that exists in this process alone."""
    level = f"limbeck_{name}"
    module = types.ModuleType(f"gfootball.scenarios.{level}", "One of limbeck's.")
    module.__dict__["build_scenario"] = partial(_tell, SCENARIOS[name])
    sys.modules[module.__name__] = module
    return level


def _tell(scenario: Scenario, builder: Any) -> None:
    engine = importlib.import_module("gfootball_engine")
    config = builder.config()
    config.game_duration = CLOCK
    config.deterministic, config.offsides = False, False
    config.end_episode_on_score = config.end_episode_on_out_of_play = config.end_episode_on_possession_change = True
    builder.SetBallPosition(*scenario.ball)
    for side, places, controllable in (
        (engine.e_Team.e_Left, scenario.left, scenario.agents),
        (engine.e_Team.e_Right, scenario.right, range(len(scenario.right))),  # nobody does control them; so it is in the game's own
    ):
        builder.SetTeam(side)
        for i, (role, x, y) in enumerate(places):
            builder.AddPlayer(x, y, getattr(engine.e_PlayerRole, f"e_PlayerRole_{role}"), controllable=i in controllable)
