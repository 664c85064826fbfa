"""Privileged multi-agent teachers and their small students."""
