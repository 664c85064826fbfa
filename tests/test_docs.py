"""Docs are code: every command and every Python block that the README and the site show is run as it stands there."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from limbeck.envs import smac

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
RUNNABLE = {"bash", "python"}
QUOTED = {"text", "json"}
TIME_LIMIT = 600
SHARED = {  # what `limbeck` does by itself, and Python's blocks do not: what one has compiled the next need not
    "JAX_NUM_CPU_DEVICES": "2",
    "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
}


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m["language"], m["text"], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def run_block(block: Block, folder: Path, where: str) -> None:
    # The environment that the tests run in comes first, so `limbeck` and `python` are the ones under test.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-euo", "pipefail", "-c", block.text] if block.language == "bash" else [sys.executable, "-c", block.text]
    env = {**os.environ, "PATH": path, "MPLBACKEND": "agg", **SHARED}
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    assert ran.returncode == 0, (
        f"{where} line {block.line} exits with {ran.returncode}:\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    )


def is_make(block: Block) -> bool:
    """The commands that set everything up: the gate runs them, a test would start itself."""
    return block.language == "bash" and all(line.startswith("make ") for line in block.text.splitlines())


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.language in RUNNABLE for b in blocks_of(p))], ids=name_of)
def test_blocks_run(page: Path, tmp_path: Path):
    for block in blocks_of(page):
        if block.language in RUNNABLE and not is_make(block):
            run_block(block, tmp_path, name_of(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_hides_in_an_unrun_block(page: Path):
    for block in blocks_of(page):
        assert block.language in RUNNABLE | QUOTED, f"{name_of(page)} line {block.line}: say bash, python, text or json"
        if block.language in QUOTED:
            assert not re.search(r"^\s*(\$ |limbeck |make |>>> |import )", block.text, re.MULTILINE)


def test_make_targets_in_the_docs_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {t for page in PAGES for t in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)}
    assert named <= targets, named - targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_the_table_of_battles_is_true():
    page = (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`.*?\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    specs = {name: smac.make(name).spec for name in (*smac.MAPS, *smac.SKIRMISHES)}
    sizes = {name: (s.n_actions, s.obs_dim, s.state_dim, s.episode_limit) for name, s in specs.items()}
    assert {name: tuple(map(int, numbers)) for name, *numbers in rows} == sizes


def test_every_public_module_is_in_the_api_pages_once():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec and spec.loader
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    marks = [mark for page in PAGES for mark in hooks.MODULES.findall(page.read_text(encoding="utf-8"))]
    assert sorted(name for mark in marks for name in hooks.selected(mark)) == hooks.modules()
