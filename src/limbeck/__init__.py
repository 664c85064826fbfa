"""Privileged multi-agent teachers, distilled into small students that see only what one agent sees.

import limbeck as lb

env = lb.make("smac/3m", sight_range=6)
teacher = lb.train(env, lb.methods.ptde.teacher(env.spec), steps=1_000_000)
student = lb.distil(env, lb.methods.ptde.student(env.spec, teacher.params))
print(lb.evaluate(env, {"teacher": teacher, "student": student}))
"""

from limbeck import methods
from limbeck.envs.base import Environment
from limbeck.envs.check import check_env
from limbeck.envs.host import HostEnv
from limbeck.envs.registry import make, names, register
from limbeck.errors import LimbeckError
from limbeck.evaluate import evaluate
from limbeck.learn import Learner
from limbeck.runs import load
from limbeck.store import RunFolder
from limbeck.train import distil, train
from limbeck.types import Algorithm, EnvSpec, Policy

__all__ = [
    "Algorithm", "EnvSpec", "Environment", "HostEnv", "Learner", "LimbeckError", "Policy", "RunFolder", "check_env", "distil",
    "evaluate", "load", "make", "methods", "names", "register", "train",
]  # fmt: skip
