"""Papers, one file each, and the list of them by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from limbeck.methods import ptde, value_decomposition
from limbeck.types import Algorithm


@dataclass(frozen=True)
class Method:
    """A method as the command line knows it."""

    summary: str
    settings: Any
    """a frozen dataclass with the defaults"""
    build: Callable[..., Algorithm]
    """(spec, settings) -> Algorithm; for a student (spec, trained teacher's parameters, settings)"""
    student: str | None = None
    """the method that distils a run of this one"""
    presets: dict[str, Any] = field(default_factory=dict)
    """settings by name"""


METHODS = {
    "iql": Method("independent Q-learning", value_decomposition.QSettings(mixer="iql"), value_decomposition.build),
    "vdn": Method("sum of the agents' values", value_decomposition.QSettings(mixer="vdn"), value_decomposition.build),
    "qmix": Method("monotone mix of the agents' values", value_decomposition.QSettings(), value_decomposition.build),
    "ptde": Method(
        "teacher with personalised global information, on any mixer", ptde.TeacherSettings(), ptde.teacher, student="ptde-student"
    ),
}
STUDENTS = {
    "ptde-student": Method("local student of a PTDE teacher", ptde.StudentSettings(), ptde.student, presets=ptde.PRESETS),
}
