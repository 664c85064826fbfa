"""The scripts of `reproduce/`, as modules: they find each other beside themselves."""

import importlib
import sys
from pathlib import Path
from types import ModuleType


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(Path(__file__).parents[1] / "reproduce"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)
