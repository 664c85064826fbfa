"""Particle worlds: agents that drift in a plane, cover landmarks and tell each other where to go."""

from limbeck.envs.mpe.spread import SimpleSpread
from limbeck.envs.mpe.talk import SimpleReference, SimpleSpeakerListener

WORLDS = {
    "simple_reference": SimpleReference,
    "simple_speaker_listener": SimpleSpeakerListener,
    "simple_spread": SimpleSpread,
}

__all__ = ["WORLDS", "SimpleReference", "SimpleSpeakerListener", "SimpleSpread"]
