"""Settings that hold for every test: two CPU devices, no silent broadcasting, compiled functions kept between runs.

Most tests compile much and compute little: they, and the programs that tests start, do without most of the compiler's
optimisations, which saves them two fifths of their time. Those marked as slow are worth the full effort. All of
them do without XLA's newer way to emit code for fused operations: to compile takes half as long, to run a quarter longer.
"""

import os
from pathlib import Path

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import pytest

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "limbeck" / "tests"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True)
def _effort(request: pytest.FixtureRequest):
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("slow") is None)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
