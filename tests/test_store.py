"""What is saved comes back bit for bit, or not at all with one clear line."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file

from limbeck import tensors
from limbeck.errors import CheckpointError, LimbeckError, RunExists
from limbeck.store import RunFolder


class Node(NamedTuple):
    weight: jax.Array
    parts: list


def example(key, scale=1.0):
    return {
        "agent": Node(scale * jax.random.normal(key, (3, 4)), [jnp.arange(5, dtype=jnp.int16), jnp.array([True, False])]),
        "half": jnp.array([1.5, jnp.inf, jnp.nan], jnp.float16),
        "brain": jnp.ones((2,), jnp.bfloat16),
        "none": jnp.zeros((0, 3)),
        "steps": jnp.int32(7),
        "keys": jax.random.split(key, 3),
        "rbg": jax.random.key(1, impl="rbg"),
    }


def shapes(tree):
    return jax.eval_shape(lambda: tree)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# -- one file --------------------------------------------------------------------------------------------------------------


def test_round_trip_is_bit_exact(tmp_path, key):
    tree = example(key)
    tensors.save(tmp_path / "x", tree, {"steps": 3})
    for like in (shapes(tree), tree):
        back, meta = tensors.load(tmp_path / "x", like)
        assert_same(tree, back)
        assert meta == {"steps": 3} == tensors.read_meta(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]


def test_the_file_is_plain_safetensors_named_by_path(tmp_path, key):
    tree = example(key) | {"brain": jnp.ones(1)}
    tensors.save(tmp_path / "x", tree)
    plain = load_file(tmp_path / "x")
    assert {"agent/weight", "agent/parts/0", "agent/parts/1", "steps"} < set(plain)
    np.testing.assert_array_equal(plain["agent/weight"], tree["agent"].weight)
    assert plain["agent/parts/1"].dtype == bool and plain["steps"] == 7


def test_restored_key_continues_the_same_stream(tmp_path, key):
    tensors.save(tmp_path / "x", key)
    back, _ = tensors.load(tmp_path / "x", shapes(key))
    assert (jax.random.normal(back, (5,)) == jax.random.normal(key, (5,))).all()


def test_only_the_filled_rows_are_stored(tmp_path):
    data = jnp.zeros((1000, 50)).at[:10].set(3.0)
    tree = {"buffer": {"data": {"obs": data, "size": jnp.int32(10)}}, "other": jnp.ones((1000,))}
    tensors.save(tmp_path / "x", tree, prefix_lengths={"buffer/data": 10})
    assert (tmp_path / "x").stat().st_size < 10 * 50 * 4 + 4000 + 1500
    assert_same(tree, tensors.load(tmp_path / "x", shapes(tree))[0])


@pytest.mark.parametrize("rows", [0, 4])
def test_a_prefix_that_is_empty_or_everything(tmp_path, rows):
    tree = {"data": jnp.zeros((4, 2)) + (rows > 0)}
    tensors.save(tmp_path / "x", tree, prefix_lengths={"data": rows})
    assert_same(tree, tensors.load(tmp_path / "x", shapes(tree))[0])


def on_two_devices(array, *axes):
    return jax.device_put(array, NamedSharding(jax.make_mesh((2,), ("device",)), PartitionSpec(*axes)))


@pytest.mark.parametrize("axes", [("device",), (None, "device"), ()])
def test_arrays_on_two_devices(tmp_path, axes):
    tree = {"x": on_two_devices(jnp.arange(24.0).reshape(4, 6), *axes)}
    tensors.save(tmp_path / "x", tree)
    back, _ = tensors.load(tmp_path / "x", tree)
    assert_same(tree, back)
    assert back["x"].sharding == tree["x"].sharding
    assert_same(tree, tensors.load(tmp_path / "x", shapes({"x": jnp.zeros((4, 6))}))[0])


def test_each_device_has_its_own_filled_rows(tmp_path):
    whole = jnp.zeros((2, 50, 3)).at[:, :5].set(jnp.arange(30.0).reshape(2, 5, 3)).reshape(100, 3)
    tree = {"data": on_two_devices(whole, "device")}
    tensors.save(tmp_path / "x", tree, prefix_lengths={"data": 5})
    assert load_file(tmp_path / "x")["data"].shape == (10, 3)
    assert_same(tree, tensors.load(tmp_path / "x", tree)[0])


def one_line(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"garbage" * 100,
        lambda content: content[:5],
        lambda content: content[:60],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: (2).to_bytes(8, "little") + b"[]",
        lambda content: (4).to_bytes(8, "little") + b"null",
    ],
)
def test_a_corrupt_file(tmp_path, key, damage):
    tree = example(key)
    tensors.save(tmp_path / "x", tree)
    (tmp_path / "x").write_bytes(damage((tmp_path / "x").read_bytes()))
    with pytest.raises(CheckpointError) as error:
        tensors.load(tmp_path / "x", tree)
    one_line(error, "x is corrupt")


@pytest.mark.parametrize(
    ("like", "difference"),
    [
        ({"a": jnp.zeros(3), "b": jnp.zeros(2)}, "lacks `b`"),
        ({"c": jnp.zeros(3)}, "lacks `c` but holds `a`"),
        ({}, "also holds `a`"),
        ({"a": jnp.zeros(4)}, "`a` is float32[3], not float32[4]"),
        ({"a": jnp.zeros(3, jnp.int32)}, "`a` is float32[3], not int32[3]"),
        ({"a": jax.random.key(0)}, "`a` is no random key"),
    ],
)
def test_a_foreign_file_names_the_first_difference(tmp_path, like, difference):
    tensors.save(tmp_path / "x", {"a": jnp.zeros(3)})
    with pytest.raises(CheckpointError) as error:
        tensors.load(tmp_path / "x", like)
    one_line(error, "belongs to another", difference)


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        tensors.load(tmp_path / "x", {})


def test_a_newer_format(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "FORMAT", "limbeck-99")
    tensors.save(tmp_path / "x", {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format limbeck-99"):
        tensors.load(tmp_path / "x", {})


# -- the run folder --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run", {"method": "qmix", "lr": 0.5, "seeds": [1, 2]})


def test_config_is_kept(run):
    again = RunFolder.open(run.path)
    assert again.config == {"method": "qmix", "lr": 0.5, "seeds": [1, 2]}
    assert again.made_with["jax"] == jax.__version__ and again.made_with["devices"] == jax.device_count()


def test_a_taken_folder_is_refused_and_left_alone(tmp_path, run):
    before = (run.path / "config.json").read_bytes()
    (tmp_path / "file").write_text("mine")
    for path in (run.path, tmp_path / "file"):
        with pytest.raises(RunExists, match="exists already"):
            RunFolder.create(path, {})
    assert (run.path / "config.json").read_bytes() == before and (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty", {}).config == {}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LimbeckError, match="cannot make the run folder"):
        RunFolder.create(tmp_path / "file" / "run", {})


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"format": 99, "config": {}}', '{"format": 1, "config": 3}'])
def test_a_folder_that_is_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError):
        RunFolder.open(tmp_path)


def test_metrics_are_numbers_or_null(run):
    run.log({"steps": jnp.int32(3), "loss": np.float32(0.5), "q": float("nan"), "rates": jnp.array([1.0, jnp.inf])})
    assert run.metrics() == [{"steps": 3, "loss": 0.5, "q": None, "rates": [1.0, None]}]


def test_resume_drops_what_was_logged_after_the_checkpoint(run):
    assert run.metrics() == []
    run.log({"steps": 1})
    run.log({"steps": 2})
    run.save_checkpoint({"x": jnp.ones(2)}, steps=2, updates=1)
    run.log({"steps": 3})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"steps": 4, "lo')
    assert len(run.metrics()) == 3
    state, meta = run.restore(shapes({"x": jnp.ones(2)}))
    assert (meta["steps"], meta["updates"]) == (2, 1) and state["x"].tolist() == [1, 1]
    run.log({"steps": 3})
    assert [row["steps"] for row in run.metrics()] == [1, 2, 3]


def test_the_last_two_checkpoints_are_kept(run):
    for steps in (5, 100, 20000):
        run.save_checkpoint({"x": jnp.int32(steps)}, steps, updates=0)
    assert [tensors.read_meta(path)["steps"] for path in run.checkpoints()] == [100, 20000]
    assert run.restore({"x": jnp.int32(0)})[0]["x"] == 20000


def test_no_checkpoint_yet(run):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        run.restore({})


def test_a_checkpoint_of_another_configuration(run):
    run.save_checkpoint({}, 1, 1)
    document = json.loads((run.path / "config.json").read_text())
    document["config"]["lr"] = 0.1
    (run.path / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="another configuration"):
        run.restore({})


def test_params(run, key):
    params = example(key)["agent"]
    run.save_params(params)
    assert_same(params, run.load_params(shapes(params)))
    assert "weight" in load_file(run.path / "params.safetensors")


# -- accidents -------------------------------------------------------------------------------------------------------------


def full_disk(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_the_checkpoint_before(run, monkeypatch, call):
    run.save_checkpoint({"x": jnp.int32(1)}, 1, 0)
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(CheckpointError) as error:
        run.save_checkpoint({"x": jnp.int32(2)}, 2, 0)
    one_line(error, "No space left", "intact")
    monkeypatch.undo()
    assert run.restore({"x": jnp.int32(0)})[0]["x"] == 1
    assert len(list((run.path / "checkpoints").iterdir())) == 1


def test_a_crash_while_writing_leaves_the_checkpoint_before(run, monkeypatch):
    run.save_checkpoint({"x": jnp.int32(1)}, 1, 0)
    (run.path / "checkpoints" / "000000000002-000000000000.safetensors.99.tmp").write_bytes(b"half")
    assert run.restore({"x": jnp.int32(0)})[0]["x"] == 1
    run.save_checkpoint({"x": jnp.int32(3)}, 3, 0)
    assert not list(run.path.glob("**/*.tmp"))


def test_ctrl_c_while_writing_leaves_the_checkpoint_before(run, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    run.save_checkpoint({"x": jnp.int32(1)}, 1, 0)
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.save_checkpoint({"x": jnp.int32(2)}, 2, 0)
    assert not list(run.path.glob("**/*.tmp"))
    assert run.restore({"x": jnp.int32(0)})[0]["x"] == 1


WRITER = """
import itertools, sys
import numpy as np
from limbeck.store import RunFolder
run = RunFolder.create(sys.argv[1], {})
for i in itertools.count(1):
    run.log({"steps": i})
    run.save_checkpoint({"x": np.full((400_000,), i, np.int32)}, i, 0)
    print(i, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.011])
def test_a_killed_writer_leaves_a_whole_last_checkpoint(tmp_path, delay):
    path = tmp_path / "run"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        for _ in range(4):
            written = int(writer.stdout.readline())
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        written = int(([str(written), *re.findall(r"\d+", writer.stdout.read())])[-1])
    run = RunFolder.open(path)
    state, meta = run.restore({"x": jax.ShapeDtypeStruct((400_000,), jnp.int32)})
    assert meta["steps"] in (written, written + 1)
    assert (state["x"] == meta["steps"]).all()
    assert [row["steps"] for row in run.metrics()] == list(range(1, meta["steps"] + 1))
