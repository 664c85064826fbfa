"""Which cases of a test the gate runs, where one costs seconds and they are many; see the marker `long`."""

from collections.abc import Iterable
from typing import Any

import pytest


def gated(cases: Iterable[Any], *enough: Any) -> list[Any]:
    """All cases, of which the gate runs those that are `enough`."""
    return [case if case in enough else _long(case) for case in cases]


def _long(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long)
