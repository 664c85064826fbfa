"""`football/SCENARIO`: academy scenarios of Google Research Football as a team's world, with PTDE's features."""

from dataclasses import dataclass

from limbeck.envs.football.features import sizes, slots
from limbeck.envs.football.find import find
from limbeck.envs.football.game import ACTIONS
from limbeck.envs.football.rewards import REWARDS
from limbeck.envs.football.scenarios import SCENARIOS
from limbeck.envs.host import HostEnv, Processes
from limbeck.errors import BadSetting, check_whole
from limbeck.types import EnvSpec


@dataclass(frozen=True)
class FootballSettings(Processes):
    """What can be told to a scenario.

    Args:
        reward: checkpoints (goals, and ways to the goal) or scoring (goals alone); the sum over all agents.
        episode_limit: steps after which an episode is truncated, ten a second.

    Raises:
        BadSetting: a value that makes no sense.
    """

    reward: str = "checkpoints"
    episode_limit: int = 150

    def __post_init__(self):
        if self.reward not in REWARDS:
            raise BadSetting(f"reward is {self.reward!r}; it must be one of {', '.join(REWARDS)}")
        check_whole(self, episode_limit=1)


def make(scenario: str, settings: FootballSettings = FootballSettings()) -> HostEnv:
    """The world `football/SCENARIO`. Nothing of the game is needed before it is played."""
    _, left, right, agents = SCENARIOS[scenario]
    places = slots(len(left), len(right))
    obs_dim, state_dim = sizes(len(left), len(right))
    spec = EnvSpec(
        name=f"football/{scenario}",
        n_agents=len(agents),
        n_actions=ACTIONS,
        obs_dim=obs_dim,
        state_dim=state_dim,
        episode_limit=settings.episode_limit,
        state_slots=tuple(places[i] for i in agents),
        other_slots=tuple(place for i, place in enumerate(places) if i not in agents),
        has_win=True,
    )
    job = {"scenario": scenario, "reward": settings.reward, "episode_limit": settings.episode_limit}
    return HostEnv(spec, "limbeck.envs.football.game:world", job, **settings.processes, require=find)
