"""Doors to worlds that others have written: PettingZoo's parallel environments, and Gymnasium's with a space for every agent."""
