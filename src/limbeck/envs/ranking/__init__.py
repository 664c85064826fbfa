"""Learning to rank: the documents of a query are the agents, their actions are scores, and the team is paid the ranking's NDCG."""

from limbeck.envs.ranking.world import Ranking, RankingFileSettings, SyntheticSettings, from_files, synthetic

__all__ = ["Ranking", "RankingFileSettings", "SyntheticSettings", "from_files", "synthetic"]
