"""Curves are drawn without a display and without global state."""

import sys

import numpy as np
import pytest
from PIL import Image

from limbeck.plots import front, learning_curves, pareto


def rows(seed, n=30):
    rng = np.random.default_rng(seed)
    rate = np.clip(np.linspace(0, 0.9, n) + rng.normal(0, 0.05, n), 0, 1)
    return [{"steps": 1000 * i, "win_rate": float(r), "return": 20 * float(r)} for i, r in enumerate(rate)]


@pytest.mark.parametrize("metric", ["win_rate", "return"])
def test_curves(tmp_path, metric):
    curves = {"QMIX": [rows(0), rows(1, 20)], "teacher": [rows(2)]}
    path = learning_curves(curves, tmp_path / "curves.png", metric, levels={"student": 0.8}, title="smac/3s_vs_5z")
    with Image.open(path) as image:
        assert image.size == (1024, 640)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize(
    "curves", [{}, {"a": []}, {"a": [[]]}, {"a": [rows(0, 1)]}, {"a": [[{"steps": 1, "win_rate": None}, {"loss": 2.0}]]}]
)
def test_too_little_to_draw_is_no_error(tmp_path, curves):
    assert learning_curves(curves, tmp_path / "curves.png").stat().st_size > 1000


def test_the_front_is_what_nothing_cheaper_equals():
    points = {
        "dear": (9.0, 0.9),
        "cheap": (1.0, 0.2),
        "beaten": (5.0, 0.5),
        "good": (4.0, 0.8),
        "twin": (4.0, 0.3),
        "equal": (6.0, 0.8),
    }
    assert front(points) == ["cheap", "good", "dear"]


@pytest.mark.parametrize("points", [{}, {"8": (1000.0, 0.5)}, {"8": (1000.0, -0.5), "16": (3000.0, 0.9), "24": (5000.0, 0.8)}])
def test_pareto(tmp_path, points):
    path = pareto(points, tmp_path / "pareto.png", "smac/3m")
    with Image.open(path) as image:
        assert image.size == (1024, 640)
    assert "matplotlib.pyplot" not in sys.modules
