"""`starcraft/MAP`: a battle of the simulator's, with its sizes and slots, fought in the real game."""

import dataclasses
from dataclasses import dataclass
from functools import partial

from limbeck.envs.host import HostEnv, Processes
from limbeck.envs.smac.maps import MAPS
from limbeck.envs.smac.settings import SmacSettings
from limbeck.envs.smac.world import spec_of
from limbeck.envs.starcraft.find import find

SIMULATED = ("balance", "ticks_per_step", "sight_range", "shoot_range")
"""settings that are no options of SMAC's: the game has its own physics, and its ranges are set apart"""


@dataclass(frozen=True)
class StarcraftSettings(Processes, SmacSettings):
    """The simulator's settings, so that a run's carry over, and those of the game. `balance` and `ticks_per_step` do nothing.

    Args:
        game: smac, smacv2, smaclite, or `package.module:function` that makes anything which speaks SMAC's interface; `auto` is what
            the variable LIMBECK_STARCRAFT says, else the first that is installed.
        difficulty: of the opponent.
    """

    game: str = "auto"
    difficulty: str = "7"


OWN = tuple(
    f.name for f in dataclasses.fields(StarcraftSettings) if f.name not in {g.name for g in dataclasses.fields(SmacSettings)}
)


def make(map_name: str, settings: StarcraftSettings = StarcraftSettings()) -> HostEnv:
    """The battle `map_name` in the real game. Its spec is that of `smac/MAP`, name apart."""
    spec = dataclasses.replace(spec_of(map_name, MAPS[map_name], settings), name=f"starcraft/{map_name}", full_obs=False)
    return HostEnv(
        spec,
        "limbeck.envs.starcraft.game:Game",
        {
            "game": settings.game,
            "map_name": map_name,
            "sizes": {
                "n_agents": spec.n_agents,
                "n_actions": spec.n_actions,
                "obs_shape": spec.obs_dim,
                "state_shape": spec.state_dim,
                "episode_limit": spec.episode_limit,
            },
            "options": _options(settings),
            "defaults": _options(StarcraftSettings()),
            "sight_range": settings.sight_range,
            "shoot_range": settings.shoot_range,
        },
        **settings.processes,
        require=partial(_require, settings.game),
    )


def _options(settings: StarcraftSettings) -> dict[str, object]:
    """What SMAC's constructor is told."""
    unasked = {*SIMULATED, *OWN} - {"difficulty"}
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in unasked}


def _require(game: str) -> None:
    find(game)
