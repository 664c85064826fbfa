"""The command line: every verb, and every mistake that it answers with one line and exit code 2."""

import json
import os
import shutil
import subprocess
import sys

import jax
import pytest
from safetensors.numpy import load_file

from limbeck.cli import main

TINY = ["--hidden", "8", "--embed", "4", "--hyper", "8", "--segment", "4", "--batch", "4", "--buffer", "32"]
QUICK = ["--worlds", "4", "--devices", "1", "--evaluations", "2", "--evaluation-episodes", "8"]
TRAIN = ["train", "qmix", "--env", "probe/lever", "--steps", "64", *TINY, *QUICK]


@pytest.fixture(autouse=True, scope="module")
def surroundings():
    """The command line finds devices and cache decided, and leaves them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "2")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def runs(folder):
    """A QMIX run, a teacher, and its student."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*TRAIN, "--mixer", "vdn", "--out", "qmix"])
        main(["train", "ptde", "--env", "probe/lever", "--steps", "64", "--latent", "6", *TINY, *QUICK, "--out", "teacher"])
        main(["distil", "teacher", "--out", "student", "--updates", "5", "--batch", "8", "--rows", "200", "--segment", "4"])
    return folder


@pytest.fixture
def fails(capsys):
    def check(*words, code=2):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        assert stop.value.code == code
        err = capsys.readouterr().err
        assert err.startswith("limbeck: ") and err.count("\n") == 1 and err.endswith("\n"), err
        return err.removeprefix("limbeck: ").rstrip()

    return check


# -- verbs -----------------------------------------------------------------------------------------------------------------


def test_list_names_worlds_methods_and_mixers(capsys):
    main(["list"])
    out = capsys.readouterr().out
    for name in ("probe/lever", "smac/3s_vs_5z", "qmix", "ptde", "vdn", "ptde-student"):
        assert name in out


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(words, capsys):
    main(words)
    out = capsys.readouterr().out
    assert all(verb in out for verb in ("demo", "list", "check", "train", "distil", "evaluate", "play", "bench"))


@pytest.mark.parametrize("verb", ["list", "check", "train", "train qmix", "distil", "evaluate", "play", "bench", "demo"])
def test_every_verb_explains_itself(verb, capsys):
    try:
        main([*verb.split(), "--help"])
    except SystemExit as stop:
        assert stop.code in (0, None)
    out = capsys.readouterr().out
    assert "usage: limbeck" in out.replace("\n", " ")


def test_the_program_says_its_version_without_being_on_the_path():
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-m", "limbeck", "--version"]
    found = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=100)
    assert found.returncode == 0 and found.stdout.startswith("limbeck 0.")


def test_a_run_folder_holds_all_that_is_promised(runs):
    for name in ("qmix", "teacher", "student"):
        run = runs / name
        config = json.loads((run / "config.json").read_text())["config"]
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["progress"] == 1 and "test_return" in rows[-1]
        assert config["devices"] in (1, 2), "resolved: the number, not `as many as there are`"
        assert len(list((run / "checkpoints").glob("*.safetensors"))) in (1, 2)
        assert all("/" in key for key in load_file(run / "params.safetensors"))
    assert "agent/encoder/weight" in load_file(runs / "qmix" / "params.safetensors")
    assert config["teacher"]["run"] == "teacher" and config["method"] == "ptde-student"


def test_a_configuration_repeats_its_run(runs):
    main(["train", "--config", "qmix/config.json", "--out", "again"])
    assert (runs / "again/params.safetensors").read_bytes() == (runs / "qmix/params.safetensors").read_bytes()


def test_resuming_a_finished_run_changes_nothing(runs):
    before = (runs / "qmix/params.safetensors").read_bytes(), (runs / "qmix/metrics.jsonl").read_bytes()
    main(["train", "--resume", "qmix"])
    assert before == ((runs / "qmix/params.safetensors").read_bytes(), (runs / "qmix/metrics.jsonl").read_bytes())


def test_evaluate_writes_one_row_per_policy(runs, capsys):
    main(["evaluate", "qmix", "teacher", "student", "--episodes", "32", "--json", "rows.json"])
    rows = json.loads((runs / "rows.json").read_text())["rows"]
    assert [(row["name"], row["policy"]) for row in rows] == [("qmix", "greedy"), ("teacher", "greedy"), ("student", "student")]
    for row in rows:
        assert row["episodes"] == 32 and row["parameters"] > 0 and row["flops"] > 0
        assert 0 <= row["win_rate_ci"][0] <= row["win_rate"] <= row["win_rate_ci"][1] <= 1
        assert row["return_ci"][0] <= row["return"] <= row["return_ci"][1]
        assert "retention" in row
    assert rows[2]["parameters"] < rows[1]["parameters"]
    assert "32 greedy episodes" in capsys.readouterr().out


def test_a_student_alone_is_compared_with_the_teacher_that_it_holds(runs):
    main(["evaluate", "student", "--episodes", "16", "--json", "alone.json"])
    rows = json.loads((runs / "alone.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["student", "teacher"]


def test_presets_fill_in_a_recipe_that_options_change(runs):
    words = ["--preset", "paper", "--updates", "3", "--batch", "8", "--rows", "200", "--segment", "4", "--devices", "1"]
    main(["distil", "teacher", "--out", "paper", *words])
    settings = json.loads((runs / "paper/config.json").read_text())["config"]["settings"]
    assert settings["lr"] == settings["lr_end"] == 1e-4 and settings["updates"] == 3


@pytest.mark.slow
@pytest.mark.long
def test_a_battle_trains_too(runs):
    main(["train", "vdn", "--env", "smac/3m", "--steps", "16", *TINY, *QUICK, "--env-set", "sight_range=4", "--out", "battle"])
    assert json.loads((runs / "battle/config.json").read_text())["config"]["env_settings"] == {"sight_range": 4}


# -- mistakes --------------------------------------------------------------------------------------------------------------

LEVER = ("--env", "probe/lever")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evalute"], "unknown verb 'evalute'; did you mean 'evaluate'?"),
        (["train", "qmx", *LEVER], "unknown method 'qmx'; did you mean 'qmix'? Known: qmix, "),
        (
            ["train", "qmix", "--env", "smac/3s_vs_5x"],
            "unknown world 'smac/3s_vs_5x'; did you mean 'smac/3s_vs_5z'? Known: smac/3s_vs_5z, ",
        ),
        (["train", "qmix", *LEVER, "--hiden", "3"], "unknown option '--hiden'; did you mean '--hidden'? Known: --hidden, "),
        (["train", "qmix", *LEVER, "--env-set", "hnt=1"], "unknown setting of probe/lever 'hnt'; did you mean 'hint'?"),
        (["train", "qmix", *LEVER, "--env-set", "hint"], "a world's setting is written name=value, not 'hint'"),
        (["train", "qmix", *LEVER, "--env-set", "length=-3"], "length is at least 1, not -3"),
        (["train", "qmix", *LEVER, "--mixer", "qmx"], "unknown mixer 'qmx'; did you mean 'qmix'?"),
        (["train", "ptde", *LEVER, "--personaliser", "gp"], "unknown personaliser 'gp'; did you mean 'gip'?"),
        (["train", "qmix", *LEVER, "--steps", "-5"], "steps must be positive, not -5"),
        (["train", "qmix", *LEVER, "--steps", "0"], "steps must be positive, not 0"),
        (["train", "qmix", *LEVER, "--steps", "abc"], "--steps needs INT, not 'abc'; see limbeck train --help"),
        (["train", "qmix", *LEVER, "--steps"], "--steps needs a value; see limbeck train --help"),
        (["train", "qmix", "--steps", "3"], "--env STR is missing; see limbeck train --help"),
        (["train", "qmix", *LEVER, "stray"], "'stray' is one word too many; see limbeck train --help"),
        (["train"], "name a method first: limbeck train METHOD --env ENV; methods: iql"),
        (["train", "qmix", *LEVER, "--hidden", "0"], "hidden must be positive, not 0"),
        (["train", "qmix", *LEVER, "--worlds", "-1"], "worlds must be positive, not -1"),
        (["train", "qmix", *LEVER, "--worlds", "3", "--devices", "2"], "3 worlds cannot be split evenly over 2 devices"),
        (["train", "qmix", *LEVER, "--worlds", "64", "--devices", "64"], "64 devices were asked for, but there are 2"),
        (["train", "qmix", *LEVER, "--batch", "33", "--devices", "2"], "a batch of 33 cannot be split evenly over 2 devices"),
        (["train", "no.such.module:build", *LEVER], "cannot take a method from 'no.such.module:build'"),
        (["train", "--resume", "nowhere"], "nowhere is not a run folder"),
        (["train", "--resume"], "expected --resume RUN"),
        (["train", "--config", "nowhere.json", "--out", "x"], "cannot read nowhere.json"),
        (["train", "--config", "nowhere.json"], "expected --config FILE --out RUN"),
        (["distil"], "name the teacher's run folder first"),
        (["distil", "nowhere"], "nowhere is not a run folder"),
        (["distil", "qmix"], "qmix holds a run of qmix, which has nothing to distil"),
        (["distil", "teacher", "--preset", "papr"], "unknown preset 'papr'; did you mean 'paper'?"),
        (["distil", "teacher", "--rows", "-1"], "rows must be positive, not -1"),
        (["evaluate"], "name at least one run folder"),
        (["evaluate", "nowhere"], "nowhere is not a run folder"),
        (["evaluate", "qmix", "--episodes", "0"], "evaluation needs at least 1 episode"),
        (
            ["evaluate", "qmix", "--env", "probe/matrix"],
            "qmix was trained in probe/lever, whose sizes are not those of probe/matrix",
        ),
        (["list", "--foo"], "unknown option '--foo'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(words, says, runs, fails):
    out = ["--out", "fresh"] if words[:1] in (["train"], ["distil"]) and words[1:] and not words[1].startswith("-") else []
    out = [] if words[-1] == "--steps" else out
    assert says in fails(*words, *out)
    assert not (runs / "fresh").exists()


def test_a_folder_that_is_taken_stays_as_it_is(runs, fails):
    before = {path: path.read_bytes() for path in (runs / "qmix").rglob("*") if path.is_file()}
    assert "qmix exists already" in fails(*TRAIN, "--out", "qmix")
    assert before == {path: path.read_bytes() for path in (runs / "qmix").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stepz": 3}, "unknown configuration 'stepz'; did you mean 'steps'?"),
        ({"steps": "many"}, "configuration 'steps' must be of type int or null, not 'many'"),
        ({"steps": True}, "configuration 'steps' must be of type int or null, not True"),
        ({"env_settings": [1]}, "configuration 'env_settings' must be of type dict, not [1]"),
        ({"settings": {"hiden": 3}}, "unknown setting of qmix 'hiden'; did you mean 'hidden'?"),
        ({"settings": {"lr": "fast"}}, "setting of qmix 'lr' must be of type float, not 'fast'"),
        ({"steps": None}, "a run needs a positive number of environment steps"),
        ({"method": "ptde-student"}, "ptde-student needs a teacher"),
        ({"teacher": {"run": "x"}}, "qmix has no teacher"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_configuration_with_a_mistake_is_refused(change, says, runs, fails):
    document = {"method": "qmix", "env": "probe/lever", "steps": 64} | change
    (runs / "mistaken.json").write_text(json.dumps(document))
    assert says in fails("train", "--config", "mistaken.json", "--out", "fresh")
    assert not (runs / "fresh").exists()


def test_a_configuration_must_be_a_json_object(runs, fails):
    (runs / "mistaken.json").write_text("{")
    assert "mistaken.json is not JSON" in fails("train", "--config", "mistaken.json", "--out", "fresh")
    (runs / "mistaken.json").write_text("[]")
    assert "it must be a JSON object" in fails("train", "--config", "mistaken.json", "--out", "fresh")


def copy_of(runs, name, to):
    shutil.rmtree(runs / to, ignore_errors=True)
    shutil.copytree(runs / name, runs / to)
    return runs / to


def test_corrupt_files_are_refused_and_kept(runs, fails):
    run = copy_of(runs, "qmix", "damaged")
    newest = sorted((run / "checkpoints").glob("*"))[-1]
    for path, words in ((newest, ["train", "--resume", "damaged"]), (run / "params.safetensors", ["evaluate", "damaged"])):
        path.write_bytes(path.read_bytes()[:-100])
        before = path.read_bytes()
        assert f"{path.relative_to(runs)} is corrupt" in fails(*words)
        assert path.read_bytes() == before
    (run / "config.json").write_text("{}")
    assert "config.json is damaged" in fails("train", "--resume", "damaged")


def test_files_of_another_run_are_refused(runs, fails):
    run = copy_of(runs, "qmix", "mixed")
    shutil.copy(runs / "teacher/params.safetensors", run / "params.safetensors")
    assert "belongs to another method, world or setting" in fails("evaluate", "mixed")
    for path in (run / "checkpoints").glob("*"):
        path.unlink()
    assert "holds no checkpoint" in fails("train", "--resume", "mixed")
    shutil.copytree(runs / "teacher/checkpoints", run / "checkpoints", dirs_exist_ok=True)
    assert "belongs to another method, world or setting" in fails("train", "--resume", "mixed")


def test_a_run_resumes_only_on_as_many_devices_as_it_began_with(runs, fails):
    run = copy_of(runs, "qmix", "wide")
    document = json.loads((run / "config.json").read_text())
    document["config"]["devices"] = 64
    (run / "config.json").write_text(json.dumps(document))
    says = fails("train", "--resume", "wide")
    assert "begun on 64 devices" in says and "JAX_NUM_CPU_DEVICES=64" in says


def test_a_loss_that_is_not_finite_stops_the_run_and_names_update_and_checkpoint(runs, fails):
    words = [*TRAIN, "--lr", "1e30", "--steps", "640", "--checkpoint-seconds", "0"]
    says = fails(*words, "--out", "diverged")
    assert "the loss is not a finite number at update " in says and "--lr" in says
    assert "checkpoint" in says
    assert not (runs / "diverged/params.safetensors").exists()
