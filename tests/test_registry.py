"""Worlds by name."""

import pytest

from limbeck.envs import probe, registry
from limbeck.errors import BadSetting, LimbeckError, UnknownName


@pytest.fixture
def clean(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})


def test_names_are_sorted_and_can_all_be_made():
    names = registry.names()
    assert "probe/matrix" in names and names == sorted(set(names))
    for name in names:
        if not registry.needs_of(name):
            assert registry.make(name).spec.name == name


def test_settings_reach_the_world():
    assert registry.make("probe/switch", delay=7).spec.episode_limit == 8


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("probe/matix", "probe/matrix"), ("switch", "probe/switch"), ("porbe/lever", "probe/lever")]
)
def test_unknown_world_names_the_nearest_first(wrong, nearest):
    with pytest.raises(UnknownName, match=f"unknown world '{wrong}'; did you mean '{nearest}'.*Known: {nearest}, .*probe/timeout"):
        registry.make(wrong)


def test_unknown_setting_names_those_that_exist():
    with pytest.raises(UnknownName, match="unknown setting of probe/switch 'dealy'; did you mean 'delay'"):
        registry.make("probe/switch", dealy=3)


@pytest.mark.parametrize("delay", [0, "three"])
def test_impossible_value_is_one_line(delay):
    with pytest.raises(BadSetting) as caught:
        registry.make("probe/switch", delay=delay)
    assert "\n" not in str(caught.value)


def test_a_world_from_outside(clean):
    registry.register("mine/long", lambda delay=9: probe.Switch(delay))
    assert "mine/long" in registry.names()
    assert registry.make("mine/long").spec.episode_limit == 10
    assert registry.make("mine/long", delay=1).spec.episode_limit == 2


def test_a_family_from_outside(clean):
    registry.register("mine/", lambda member, length=1: probe.Timeout(length * int(member)), members=["2", "3"])
    assert [registry.make(name, length=4).spec.episode_limit for name in ("mine/2", "mine/3")] == [8, 12]
    with pytest.raises(UnknownName, match="'member'"):
        registry.make("mine/2", member=2)


def test_an_outside_world_may_join_a_family_of_ours(clean):
    registry.register("probe/slow", probe.Switch)
    assert registry.make("probe/slow").spec.n_agents == 2


@pytest.mark.parametrize("name", ["noslash", "/x", "probe/matrix", "mine/"])
def test_a_taken_or_formless_name_is_refused(clean, name):
    with pytest.raises(BadSetting):
        registry.register(name, probe.Matrix)


def test_a_bug_of_a_world_is_not_called_a_bad_setting(clean):
    def broken():
        raise TypeError("bug")

    registry.register("mine/broken", broken)
    with pytest.raises(TypeError) as caught:
        registry.make("mine/broken")
    assert not isinstance(caught.value, LimbeckError)
