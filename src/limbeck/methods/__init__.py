"""Papers, one file each, and the list of them by name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from limbeck.methods import bases, cadp, copa, csrl, ctds, ddn, igm_da, kd_marl, mappo, ptde
from limbeck.methods.bases import BASES
from limbeck.methods.q_learning import PRESETS, Base, QSettings
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
    world: dict[str, Any] = field(default_factory=dict)
    """settings that the method asks of any world that has them"""
    inherits: tuple[str, ...] = ()
    """a student's settings that are its teacher's where they are none"""


def _with_presets(settings: QSettings, **changes: Any) -> dict[str, Any]:
    """The recipes of the field, for anything that learns by Q-learning."""
    return {name: replace(settings, **(preset | changes)) for name, preset in PRESETS.items()}


def _base(name: str, base: Base) -> Method:
    settings = QSettings(mixer=name, **base.defaults)
    return Method(base.summary, settings, bases.build, presets=_with_presets(settings, **base.defaults))


def _on_policy(
    summary: str, settings: mappo.MAPPOSettings, build: Callable[..., Algorithm] = mappo.build, student: str | None = None
) -> Method:
    presets = {name: replace(settings, **preset) for name, preset in mappo.PRESETS.items()}
    return Method(summary, settings, build, student, presets)


METHODS = {
    **{name: _base(name, base) for name, base in BASES.items()},
    "mappo": _on_policy("clipped policy gradients, and one value for the team", mappo.MAPPOSettings(), student="kd-marl"),
    "ippo": _on_policy(
        "clipped policy gradients, and a value for each agent", mappo.MAPPOSettings(critic="local"), student="kd-marl"
    ),
    "ptde": Method(
        "teacher with personalised global information, on any mixer",
        ptde.TeacherSettings(),
        ptde.teacher,
        student="ptde-student",
        presets=_with_presets(ptde.TeacherSettings()),
    ),
    "ptde-mappo": _on_policy(
        "the same teacher on MAPPO", ptde.MAPPOTeacherSettings(), ptde.teacher_on_mappo, student="ptde-student"
    ),
    "copa": Method(
        "a coach that sees all and speaks now and then", copa.COPASettings(), copa.build, presets=_with_presets(copa.COPASettings())
    ),
    "csrl": Method(
        "a commander that tells each agent what the state means for it",
        csrl.CSRLSettings(),
        csrl.build,
        presets=_with_presets(csrl.CSRLSettings()),
    ),
    "cadp": Method(
        "agents advise each other, and learn to do without",
        cadp.CADPSettings(),
        cadp.build,
        presets=_with_presets(cadp.CADPSettings()),
    ),
    "ctds": Method(
        "a teacher that sees all units, and a student that learns its values meanwhile",
        ctds.CTDSSettings(),
        ctds.build,
        presets=_with_presets(ctds.CTDSSettings()) | {"paper": replace(ctds.CTDSSettings(), **ctds.PAPER)},
        world={"full_obs": True},
    ),
    "igm-da": Method(
        "a learner that imitates an expert who sees all units",
        igm_da.IGMDASettings(),
        igm_da.build,
        presets=_with_presets(igm_da.IGMDASettings()) | {"paper": replace(igm_da.IGMDASettings(), **igm_da.PAPER)},
        world={"full_obs": True},
    ),
    "ddn": Method(
        "a guide with a personalised state, and a local network that is distilled from it meanwhile",
        ddn.DDNSettings(),
        ddn.build,
        presets=_with_presets(ddn.DDNSettings()) | {name: replace(ddn.DDNSettings(), **p) for name, p in ddn.DDN_PRESETS.items()},
    ),
}
STUDENTS = {
    "ptde-student": Method("local student of a PTDE teacher", ptde.StudentSettings(), ptde.student, presets=ptde.PRESETS),
    "kd-marl": Method(
        "small unlike students of a MAPPO teacher, without a critic (a reconstruction)",
        kd_marl.KDMARLSettings(),
        kd_marl.student,
        presets=kd_marl.PRESETS,
        inherits=("gamma", "gae_lambda"),
    ),
}
