"""The rules of the house that a reader would otherwise have to trust: who imports whom, sizes, and words that are not used."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
FILES = sorted((SRC / "limbeck").rglob("*.py"))
MODULES = {".".join(p.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60

# Which other rooms a room may import from. `types` and `errors` are open to all; a room always knows itself.
# A new module of the package needs a line here: say what it may know before it knows everything.
ROOMS: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "envs": set(),
    "nets": set(),
    "losses": set(),
    "replay": set(),
    "stats": set(),
    "arguments": set(),
    "documents": set(),
    "tensors": set(),
    "store": {"tensors"},
    "progress": set(),
    "cost": {"nets"},
    "latency": {"nets", "cost"},
    "table": set(),
    # How learning runs; none of it knows a paper.
    "rollout": {"envs"},
    "hosted": {"envs", "rollout"},
    "learn": {"envs", "replay", "rollout"},
    "acting": {"envs", "rollout", "hosted"},
    "hosted_learner": {"envs", "replay", "rollout", "hosted", "acting", "learn"},
    "train": {"envs", "replay", "rollout", "learn", "hosted_learner", "store", "progress"},
    "evaluate": {"envs", "rollout", "hosted", "stats", "cost", "learn", "train", "table"},
    "play": {"envs", "evaluate"},
    # Papers.
    "methods": {"nets", "losses", "replay", "distil"},
    "distil": {"nets", "losses", "replay"},
    # What people look at and take away.
    "plots": {"stats", "store"},
    "report": {"stats", "store", "plots", "evaluate"},
    "export": {"nets", "cost", "store"},
}
# The front of the house sees every room; nobody looks back at it.
FRONT = {"__init__", "__main__", "catalogue", "cli", "demo", "bench", "runs", "timing", "watch"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(module: str) -> Iterator[tuple[str, int]]:
    """Every module of limbeck that this one imports, wherever the import stands, with its line."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "limbeck":
                yield name, node.lineno


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def may_import(room: str, other: str) -> bool:
    if room in FRONT or room == other:
        return True
    return other not in FRONT and other in {"types", "errors"} | ROOMS[room]


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(SRC.parent)}:{line}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str):
    room = room_of(module)
    assert room in ROOMS or room in FRONT, f"{module}: a new room; say in tests/test_house.py what it may import"
    wrong = [
        f"{where(MODULES[module], n)} imports {other}" for other, n in imports_of(module) if not may_import(room, room_of(other))
    ]
    assert not wrong, wrong


def test_no_two_modules_import_each_other():
    # A package's own __init__ re-exports its modules; what is asked of the package is asked of them.
    graph = {m: {o for o, _ in imports_of(m) if o != m and not m.startswith(o + ".")} for m in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_a_paper_is_known_to_the_front_only():
    assert not [room for room, known in ROOMS.items() if "methods" in known]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_sizes(path: Path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path.relative_to(SRC)} has {lines} lines: two ideas in one file?"
    long = [
        f"{where(path, node.lineno)} {node.name}: {length} lines"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, long


def words_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that the code gives to something or calls it by."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield name, node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_nothing_is_called_done(path: Path):
    """One word for "the world ended" and "time is up" is the commonest silent bug of this field."""
    banned = {"done", "dones", "last_done", "next_done"}
    assert not [where(path, line) for word, line in words_of(tree_of(path)) if word in banned]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_files_have_a_subject(path: Path):
    assert path.stem not in {"utils", "util", "common", "helpers", "misc"}, "name the file after what it holds"
    assert not path.stem.startswith("base_")
    assert ast.get_docstring(tree_of(path)), f"{path.relative_to(SRC)}: say in a docstring what it is for"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_nothing_is_unpickled(path: Path):
    picklers = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    tree = tree_of(path)
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not picklers & {name.split(".")[0] for name in imported}
    allowed = [n for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg == "allow_pickle"]
    assert all(isinstance(n.value, ast.Constant) and n.value.value is False for n in allowed)
