"""`limbeck play`: who is shown, what is written, and every mistake that it answers with one line."""

import dataclasses
import json
import re

import jax
import pytest
from PIL import Image

from limbeck import runs
from limbeck.cli import main
from limbeck.runs import RunConfig
from limbeck.store import RunFolder

SMALL = {"hidden": 8, "embed": 4, "hyper": 8}


def leave(path, config: RunConfig) -> None:
    """A run folder as training leaves it, but nobody has learned anything."""
    config = dataclasses.replace(config, devices=1)
    algorithm = runs.build(config)
    params = jax.jit(algorithm.init)(jax.random.key(0))
    RunFolder.create(path, dataclasses.asdict(config)).save_params(params)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watch")
    near = {"sight_range": 2.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        leave("teacher", RunConfig("ptde", "smac/3m", near, SMALL | {"latent": 6}))
        leave("student", runs.of_student("teacher"))
        leave("vdn", RunConfig("vdn", "smac/3m", near, {"hidden": 8}))
        leave("far", RunConfig("vdn", "smac/3m", {}, {"hidden": 8}))
        leave("lever", RunConfig("vdn", "probe/lever", {}, {"hidden": 8}))
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
    monkeypatch.chdir(folder)


def shown(page) -> list[dict]:
    found = re.search(r"^const DATA = (.*);$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return json.loads(found[1])["films"]


@pytest.mark.long
def test_a_students_folder_shows_its_teacher_and_the_student(folder, capsys):
    main(["play", "student", "--seed", "5", "--width", "200"])
    teacher, student = shown(folder / "battle.html")
    assert (teacher["name"], student["name"]) == ("teacher", "student")
    assert "sees everything" in teacher["note"] and "sees its own surroundings" in student["note"]
    for axis in "xy":
        assert teacher[axis][0] == student[axis][0], "they begin alike"
    assert re.fullmatch(r"(won|lost|time is up) · step \d+ · return \d+\.\d", student["outcome"])
    assert "sight_range 2.0, seed 5" in (folder / "battle.html").read_text(encoding="utf-8")
    with Image.open(folder / "battle.gif") as image:
        assert image.n_frames == max(len(teacher["x"]), len(student["x"]))
    out = capsys.readouterr().out
    assert student["outcome"] in out and "battle.gif" in out


def test_runs_stand_in_the_order_in_which_they_are_named(folder):
    main(["play", "vdn", "teacher", "student", "--out", "new/three.html"])
    assert [film["name"] for film in shown(folder / "new/three.html")] == ["vdn", "teacher", "student"]
    main(["play", "student:student", "--out", "one.html"])
    assert [film["name"] for film in shown(folder / "one.html")] == ["student"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name at least one run folder: limbeck play RUN [RUN2]"),
        (["nowhere"], "nowhere is not a run folder"),
        (["student:techer"], "unknown policy of student 'techer'; did you mean 'teacher'? Known: teacher, student"),
        (
            ["vdn", "far"],
            "vdn was trained in smac/3m with sight_range=2.0, far was trained in smac/3m: only runs of the same world",
        ),
        (["lever"], "lever was trained in probe/lever, which cannot be drawn; only battles can, smac/..."),
        (["vdn", "vdn"], "vdn:greedy is named 2 times"),
        (["vdn", "--out", "x.mp4"], "x.mp4 has no ending that says what to write; it must be .html"),
        (["vdn", "--width", "5"], "width is 5; it must be 160 to 2000 pixels"),
        (["vdn", "--sede", "5"], "unknown option '--sede'; did you mean '--seed'?"),
        (["vdn", "--out", "vdn/config.json/x.html"], "cannot write vdn/config.json/x.html"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(words, says, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["play", *words])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.startswith("limbeck: ") and err.count("\n") == 1
    assert says in err
