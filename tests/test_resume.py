"""A run that was killed, or stopped, and resumed ends with the very bits of one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

SMALL = [
    "--hidden",
    "8",
    "--embed",
    "4",
    "--hyper",
    "8",
    "--segment",
    "4",
    "--batch",
    "8",
    "--buffer",
    "500",
    "--mixer",
    "vdn",
    "--updates",
    "1",
]
TRAIN = ["train", "qmix", "--env", "probe/switch", "--steps", "50000", "--worlds", "4", "--devices", "2", "--seed", "5", *SMALL]
OFTEN = ["--checkpoint-seconds", "0.05", "--evaluation-episodes", "16"]
PROGRAM = "import sys; from limbeck.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


def limbeck(folder, *words):
    cache = folder / "cache"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


def ends_well(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def wait_for_checkpoint(process, run):
    deadline = time.monotonic() + 120
    while not list((run / "checkpoints").glob("*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def params(run):
    return (run / "params.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(folder):
    ends_well(limbeck(folder, *TRAIN, *OFTEN, "--out", "undisturbed"))
    return params(folder / "undisturbed")


def assert_stops(folder, process, run, number):
    """Sends the signal at some moment after the first checkpoint; the run must not have been over."""
    wait_for_checkpoint(process, run)
    time.sleep(random.random() * 0.4)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert not (run / "params.safetensors").exists(), f"the run was over before it could be stopped: {out}"
    return process.returncode, err


def test_a_killed_run_resumes_to_the_same_bits(folder, undisturbed):
    run = folder / "killed"
    code, _ = assert_stops(folder, limbeck(folder, *TRAIN, *OFTEN, "--out", "killed"), run, signal.SIGKILL)
    assert code == -signal.SIGKILL
    ends_well(limbeck(folder, "train", "--resume", "killed"))
    assert params(run) == undisturbed
    steps = [line.split(",")[0] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(set(steps)) == len(steps), "no stretch is in the metrics twice"


def test_ctrl_c_saves_and_says_how_to_resume(folder, undisturbed):
    run = folder / "stopped"
    code, err = assert_stops(folder, limbeck(folder, *TRAIN, *OFTEN, "--out", "stopped"), run, signal.SIGINT)
    assert code == 130
    assert err.strip() == "limbeck: stopped; all is saved, continue with: limbeck train --resume stopped"
    ends_well(limbeck(folder, "train", "--resume", "stopped"))
    assert params(run) == undisturbed


def test_a_configuration_repeats_its_run_to_the_bit(folder, undisturbed):
    ends_well(limbeck(folder, "train", "--config", "undisturbed/config.json", "--out", "repeated"))
    assert params(folder / "repeated") == undisturbed


@pytest.mark.long
def test_a_killed_distillation_resumes_to_the_same_bits(folder):
    small = ["--latent", "6", *SMALL]
    ends_well(limbeck(folder, "train", "ptde", "--env", "probe/lever", "--steps", "2000", *small, "--out", "teacher"))
    distil = ["distil", "teacher", "--updates", "8000", "--rows", "5000", "--batch", "64", "--worlds", "4", *OFTEN]
    ends_well(limbeck(folder, *distil, "--out", "whole"))
    code, _ = assert_stops(folder, limbeck(folder, *distil, "--out", "cut"), folder / "cut", signal.SIGKILL)
    assert code == -signal.SIGKILL
    # A resume needs nothing but its own folder: not even the teacher's.
    (folder / "teacher").rename(folder / "teacher-elsewhere")
    ends_well(limbeck(folder, "train", "--resume", "cut"))
    (folder / "teacher-elsewhere").rename(folder / "teacher")
    assert params(folder / "cut") == params(folder / "whole")
