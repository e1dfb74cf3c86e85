"""The run directory: what a run leaves behind, and what it needs to go on after an interruption."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from covermap.errors import ConfigError, InputError, OutputError
from covermap.raster.writing import write_text_atomic

_LOG = logging.getLogger(__name__)


class RunDirectory:
    """A folder with one run's recipe, log, checkpoints, bundle, scores and report.

    Of several training processes only the main one (rank 0) writes; the others' `log` does nothing.
    The main process holds a lock file while the run is open, so that two runs never share a folder.
    """

    def __init__(self, path: Path, recipe: str, locked: bool) -> None:
        """Use `create` or `resume` instead."""
        self.path = path
        self.recipe = recipe
        self._locked = locked

    @classmethod
    def create(cls, path: str | Path, recipe: str) -> RunDirectory:
        """Make a new run directory.

        Args:
            path: folder; made if absent. It may hold other files, but no run; one that was refused
                before it began, for its recipe or its data, is replaced.
            recipe: the resolved recipe as YAML text.

        Returns:
            The run directory, locked by this process.

        Raises:
            ConfigError: the folder holds a run already.
            OutputError: the folder cannot be written.
        """
        path = Path(path)
        if not is_main_process():
            return cls(path, recipe, locked=False)
        traces = ("log.jsonl", "bundle.safetensors", "checkpoints/last.ckpt")
        if (path / "recipe.yaml").exists() and any((path / name).exists() for name in traces):
            raise ConfigError(
                f"{path} holds a run already. Continue it with --resume, or choose another folder."
            )
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            _lock(path)
            (path / "recipe.yaml").write_text(recipe, encoding="utf-8")
            (path / "prepared.json").unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path}: the run directory cannot be made: {error}. Choose another folder."
            ) from None
        return cls(path, recipe, locked=True)

    @classmethod
    def resume(cls, path: str | Path) -> RunDirectory:
        """Open the directory of a run that was interrupted, or has ended.

        Args:
            path: folder that `create` made.

        Returns:
            The run directory, locked by this process; its `recipe` is the stored one.

        Raises:
            InputError: the folder holds no run.
            ConfigError: another process is at work in it.
            OutputError: the folder cannot be written.
        """
        path = Path(path)
        try:
            recipe = (path / "recipe.yaml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise InputError(
                f"{path} holds no run: there is no readable recipe.yaml in it. "
                "Give the folder of an earlier run, or start a new one without --resume."
            ) from None
        if not is_main_process():
            return cls(path, recipe, locked=False)
        try:
            (path / "checkpoints").mkdir(exist_ok=True)
            _lock(path)
            _end_line(path / "log.jsonl")
        except OSError as error:
            raise OutputError(f"{path}: the run directory cannot be written: {error}.") from None
        return cls(path, recipe, locked=True)

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """State to resume from, in torch's own format (read with `weights_only=True`)."""
        return self.checkpoints / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """Bundle of the best weights so far."""
        return self.checkpoints / "best.safetensors"

    @property
    def bundle_path(self) -> Path:
        """The bundle that the run makes."""
        return self.path / "bundle.safetensors"

    @property
    def prepared_path(self) -> Path:
        """Band statistics and class counts, measured once per run."""
        return self.path / "prepared.json"

    @property
    def scores_path(self) -> Path:
        """Final scores as JSON."""
        return self.path / "scores.json"

    @property
    def report_path(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def log_path(self) -> Path:
        """The log: one JSON object per line."""
        return self.path / "log.jsonl"

    @property
    def tensorboard_path(self) -> Path:
        """Folder of TensorBoard event files."""
        return self.path / "tensorboard"

    def log(self, event: Mapping[str, Any]) -> None:
        """Append an event to the log, with the time in seconds since 1970.

        Args:
            event: plain values; `event["event"]` says what happened. NaN is written as null.

        Raises:
            OutputError: the log cannot be written.
        """
        if not self._locked:
            return
        line = json.dumps(_plain({"time": round(time.time(), 3), **event}), allow_nan=False)
        try:
            with self.log_path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise OutputError(f"{self.log_path}: the log cannot be written: {error}.") from None

    def events(self) -> list[dict[str, Any]]:
        """Read the log back.

        Returns:
            All events in order; a line that a crash left unfinished is left out.
        """
        if not self.log_path.exists():
            return []
        events = []
        for line in self.log_path.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                _LOG.warning("%s: skipped an unfinished line", self.log_path)
        return events

    def epochs(self) -> list[dict[str, Any]]:
        """Events of the epochs in order; of an epoch run twice (after a crash) the later one."""
        found = {event["epoch"]: event for event in self.events() if event.get("event") == "epoch"}
        return [found[epoch] for epoch in sorted(found)]

    def rewind(self, step: int) -> None:
        """Take back what the log tells of later steps: after a crash they are gone through again.

        Args:
            step: the optimiser step from which the run goes on.

        Raises:
            OutputError: the log cannot be written.
        """
        events = self.events() if self._locked else []
        kept = [event for event in events if event.get("step", 0) <= step]
        if len(kept) < len(events):
            lines = (json.dumps(event, allow_nan=False) + "\n" for event in kept)
            write_text_atomic(self.log_path, "".join(lines))

    def close(self) -> None:
        """Release the lock."""
        if self._locked:
            self._locked = False
            (self.path / "run.lock").unlink(missing_ok=True)

    def __enter__(self) -> RunDirectory:
        """Return the run itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self.close()


def is_main_process() -> bool:
    """Whether this is the one process, or the first of several that train together.

    Read from the variables that torchrun, SLURM and Lightning set for the processes they start.
    """
    if "RANK" in os.environ:
        return int(os.environ["RANK"]) == 0
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"]) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0
    return int(os.environ.get("SLURM_PROCID", "0")) == 0


def _lock(path: Path) -> None:
    """Write the lock file, or say who holds it."""
    lock = path / "run.lock"
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
    for _ in range(2):
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            holder = _read_lock(lock)
            if _is_alive(holder, mine, lock):
                raise ConfigError(
                    f"{path} is in use by process {holder.get('pid')} on {holder.get('host')}. "
                    f"Wait for it to end; if it has ended, delete {lock}."
                ) from None
            lock.unlink(missing_ok=True)
            continue
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(mine, stream)
        return
    raise ConfigError(f"{path}: another process took the lock {lock} just now. Try again.")


def _read_lock(lock: Path) -> dict[str, Any]:
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_alive(holder: Mapping[str, Any], mine: Mapping[str, Any], lock: Path) -> bool:
    """Whether a lock's holder may still run; on another host nobody can tell, so yes."""
    if not holder:  # just made and not yet written, or left so by a crash
        return lock.exists() and time.time() - lock.stat().st_mtime < 10
    if holder.get("host") != mine["host"]:
        return True
    started = _started(int(holder.get("pid", -1)))
    return started is not None and started == holder.get("started")


def _started(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError):
        return None


def _end_line(path: Path) -> None:
    """End a line that a crash left unfinished, so that the next event starts its own."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as stream:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and mappings as JSON has them; NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
