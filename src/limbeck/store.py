"""The run folder: configuration, metrics, parameters, checkpoints. Nothing in it is pickled.

RUN/config.json            {"format", "made_with", "config"}
RUN/metrics.jsonl          one row per line
RUN/params.safetensors     parameters by path, such as `agent/encoder/weight`
RUN/checkpoints/           the last two, each a whole `TrainState` in one file
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from limbeck import tensors
from limbeck.errors import CheckpointError, LimbeckError, RunExists

FORMAT = 1
KEEP = 2


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run. Make one with `create` or `open`."""

    path: Path

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> "RunFolder":
        """A new run with its resolved configuration.

        Raises:
            RunExists: the folder is there and holds something, or a file has its name.
            LimbeckError: the folder cannot be made.
        """
        run = cls(Path(path))
        if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
            raise RunExists(f"{run.path} exists already and is kept as it is; choose another folder, or resume the run in it")
        made_with = {
            "limbeck": version("limbeck"),
            "jax": jax.__version__,
            "python": platform.python_version(),
            "backend": jax.default_backend(),
            "devices": jax.device_count(),
        }
        document = {"format": FORMAT, "made_with": made_with, "config": config}
        try:
            run._checkpoints.mkdir(parents=True, exist_ok=True)
            tensors.write_whole(run.path / "config.json", lambda file: file.write(json.dumps(document, indent=2).encode() + b"\n"))
        except OSError as error:
            raise LimbeckError(f"cannot make the run folder {run.path}: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """The run that the folder holds.

        Raises:
            CheckpointError: it holds none, or one of another format.
        """
        run = cls(Path(path))
        run._document()
        return run

    # -- configuration ---------------------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self._document()["config"]

    @property
    def made_with(self) -> dict[str, Any]:
        """The versions and the number of devices that the run began with."""
        return self._document()["made_with"]

    def _document(self) -> dict[str, Any]:
        file = self.path / "config.json"
        try:
            document = json.loads(file.read_text())
            if document["format"] == FORMAT and isinstance(document["config"], dict):
                return document
        except OSError as error:
            raise CheckpointError(f"{self.path} is not a run folder: cannot read {file} ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{file} is damaged or no run's configuration; restore it from a copy") from error
        raise CheckpointError(f"{file} has format {document['format']}, this version reads {FORMAT}; use the version that wrote it")

    # -- metrics ---------------------------------------------------------------------------------------------------------

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row of metrics. Numbers that are not finite become null."""
        line = json.dumps({name: _plain(value) for name, value in row.items()}, allow_nan=False)
        try:
            with self._metrics.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise LimbeckError(f"cannot write {self._metrics}: {error.strerror}; all checkpoints so far are intact") from error

    def metrics(self) -> list[dict[str, Any]]:
        """All rows so far. A last line that was cut short is left out."""
        return [json.loads(line) for line in self._metric_lines()]

    def _metric_lines(self) -> list[bytes]:
        if not self._metrics.exists():
            return []
        return self._metrics.read_bytes().split(b"\n")[:-1]

    def _truncate_metrics(self, lines: int) -> None:
        """Drop what a run wrote after the checkpoint that it now continues from: it will write that again."""
        if self._metrics.exists():
            size = sum(len(line) + 1 for line in self._metric_lines()[:lines])
            os.truncate(self._metrics, size)

    # -- checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self._checkpoints.glob("*.safetensors"))

    def save_checkpoint(self, state: PyTree, steps: int, updates: int, prefix_lengths: Mapping[str, int] | None = None) -> Path:
        """Write the whole state; then, when it is safely on the disk, drop all but the last two checkpoints.

        Args:
            state: a pytree of arrays.
            steps: environment steps so far.
            updates: gradient steps so far.
            prefix_lengths: see `tensors.save`; for buffers of which only the first rows (on each device) are filled.

        Raises:
            CheckpointError: the disk is full or the folder gone; the checkpoints before are intact.
        """
        for unfinished in self._checkpoints.glob("*.tmp"):
            unfinished.unlink()
        if self._metrics.exists():
            with self._metrics.open("rb") as file:
                os.fsync(file.fileno())
        meta = {"steps": steps, "updates": updates, "metrics_lines": len(self._metric_lines()), "config": self._config_hash()}
        path = self._checkpoints / f"{steps:012d}-{updates:012d}.safetensors"
        tensors.save(path, state, meta, prefix_lengths)
        for old in self.checkpoints()[:-KEEP]:
            old.unlink()
        return path

    def restore(self, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """The last checkpoint's state, and its `steps` and `updates`. Metrics written after it are dropped.

        Args:
            like: a pytree of arrays or `jax.ShapeDtypeStruct`, as the state must be.

        Raises:
            CheckpointError: there is none; or it is corrupt, or of another method, world or configuration.
        """
        found = self.checkpoints()
        if not found:
            raise CheckpointError(f"{self.path} holds no checkpoint: the run stopped before its first one; start it anew elsewhere")
        state, meta = tensors.load(found[-1], like)
        if meta.get("config") != self._config_hash():
            raise CheckpointError(
                f"{found[-1]} was written under another configuration than {self.path / 'config.json'}; restore that"
            )
        self._truncate_metrics(meta["metrics_lines"])
        return state, meta

    def save_params(self, params: PyTree) -> Path:
        """Write the parameters alone."""
        path = self.path / "params.safetensors"
        tensors.save(path, params)
        return path

    def load_params(self, like: PyTree) -> PyTree:
        """The parameters.

        Raises:
            CheckpointError: missing, corrupt, or of another method or world.
        """
        return tensors.load(self.path / "params.safetensors", like)[0]

    def _config_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
