"""Public function that scores few-shot methods on the field's benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from covermap.api.shared import load_bundle
from covermap.data.episodes import Episode
from covermap.errors import ConfigError, InputError, nearest
from covermap.folds import FOLDS
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress

if TYPE_CHECKING:
    from covermap.assessment.few_shot import At
    from covermap.assessment.few_shot_scores import Absent, FewShotRow, FewShotTable


@dataclass(frozen=True)
class FewShotBenchmark:
    """How a benchmark is scored in publications.

    Attributes:
        size: side of the canvas, pixels.
        runs: draws of support.
        most: queries at most; None for all.
        absent: what a class that is in neither labels nor predictions counts.
    """

    size: int
    runs: int
    most: int | None
    absent: Absent


BENCHMARKS: Mapping[str, FewShotBenchmark] = MappingProxyType(
    {
        "oem": FewShotBenchmark(1024, 1, None, "zero"),
        "pascal5i": FewShotBenchmark(417, 5, None, "skip"),
        "pascal10i": FewShotBenchmark(417, 5, None, "skip"),
        "coco20i": FewShotBenchmark(417, 5, 10_000, "skip"),
        "coco20i-consecutive": FewShotBenchmark(417, 5, 10_000, "skip"),
    }
)
"""The benchmarks by name."""


@dataclass(frozen=True)
class FewShotTrial:
    """What is tried on a benchmark.

    Attributes:
        method: one of `covermap.learning.few_shot_bundle.METHODS`.
        settings: settings of the method that differ from its published defaults.
        marginal: of `diam`: self, upperbound, image_level or uniform; that of the settings by
            default.
        shots: support images per novel class; 5 by default, and all that `oem` lists.
        folds: folds of the benchmark; all by default.
        runs: draws of support; as published by default.
        phase: of `oem`: val or test.
        size: side of the canvas, pixels; `image` for images as they are; as published by default.
        at: where predictions meet labels: on the canvas, as published, or at the image's own size.
        tta: `none` or `d4`.
        batch: queries that are adapted to side by side.
        most: queries at most per run; as published by default. Not for `oem`.
        seed: of the draws.
        device: where to compute; see `covermap.models.runtime.resolve_device`.
    """

    method: str = "diam"
    settings: Mapping[str, Any] = field(default_factory=dict)
    marginal: str | None = None
    shots: int | None = None
    folds: tuple[int, ...] | None = None
    runs: int | None = None
    phase: str = "val"
    size: int | Literal["image"] | None = None
    at: At = "canvas"
    tta: str = "none"
    batch: int = 4
    most: int | None = None
    seed: int = 2023
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of its range.
        """
        least = [n for n in (self.shots, self.runs, self.batch, self.most) if n is not None]
        if min(least) < 1 or self.seed < 0:
            raise ConfigError("shots, runs, batch and most must be at least 1, seed at least 0.")
        if isinstance(self.size, str) and self.size != "image":
            raise ConfigError(f"size is {self.size!r}; expected a number of pixels, or image.")
        if self.folds is not None and not self.folds:
            raise ConfigError("folds is empty; name at least one, or leave it out for all.")


def evaluate_few_shot(
    bundle: Bundle | str | Path,
    benchmark: str,
    root: str | Path,
    *,
    trial: FewShotTrial | None = None,
    keep: str | Path | None = None,
    progress: Progress = SILENT,
) -> FewShotTable:
    """Score a few-shot method on a benchmark, as its tables are published.

    Args:
        bundle: knows background and base classes; for several folds the path of a file each, with
            `{fold}` where their numbers are.
        benchmark: one of `BENCHMARKS`.
        root: folder of the data set; see `docs/few_shot.md`.
        trial: what is tried.
        keep: folder for predictions and labels; see `evaluate_episode`. Of folds each run has a
            folder of its own, called by the episode.
        progress: shows what is under way.

    Returns:
        The scores; without rows where no query has a label.

    Raises:
        ConfigError: the benchmark, a fold or a setting does not exist, or does not go with others.
        InputError: files are missing or unreadable.
        LegendError, BundleError, BandError: a bundle does not go with a fold.
        OutputError: a prediction cannot be written.
    """
    from covermap.assessment.few_shot import evaluate_episode
    from covermap.assessment.few_shot_scores import FewShotRow, FewShotTable
    from covermap.learning.few_shot_bundle import method_config
    from covermap.models.runtime import resolve_device

    trial = trial or FewShotTrial()
    known, trial = _resolved(benchmark, trial)
    chosen = {} if trial.marginal is None else {"marginal": trial.marginal}
    config = method_config(trial.method, {**trial.settings, **chosen}, published=True)
    device = resolve_device(trial.device)
    bundles = _bundles(bundle, trial.folds)
    rows: list[FewShotRow] = []
    for fold, source in bundles.items():
        loaded = load_bundle(source)
        runs = []
        for episode in _episodes(benchmark, Path(root), fold, trial, progress):
            found = evaluate_episode(
                loaded,
                episode,
                method=trial.method,
                config=config,
                size=None if trial.size == "image" else trial.size,
                at=trial.at,
                absent=known.absent,
                batch=trial.batch,
                tta=trial.tta,
                keep=None if keep is None else Path(keep, "" if fold is None else episode.name),
                device=device,
                progress=progress,
            )
            runs += [] if found is None else [found]
        if runs:
            rows.append(FewShotRow(trial.phase if fold is None else str(fold), tuple(runs)))
    return FewShotTable(_title(benchmark, trial), tuple(rows), _told(trial, config, bundles))


def _resolved(benchmark: str, trial: FewShotTrial) -> tuple[FewShotBenchmark, FewShotTrial]:
    """The benchmark, and the trial with its defaults filled in."""
    if benchmark not in BENCHMARKS:
        raise ConfigError(
            f"There is no few-shot benchmark {benchmark!r}.{nearest(benchmark, BENCHMARKS)} "
            f"Benchmarks: {', '.join(BENCHMARKS)}."
        )
    known = BENCHMARKS[benchmark]
    size = known.size if trial.size is None else trial.size
    if benchmark == "oem":
        given = (("folds", trial.folds), ("most", trial.most), ("runs", trial.runs))
        stated = [name for name, value in given if value not in (None, 1)]
        if stated:
            raise ConfigError(
                f"{' and '.join(stated)}: the support and the queries of oem are fixed by its "
                "lists; leave this out."
            )
        return known, replace(trial, size=size, runs=1, most=None)
    if trial.phase != "val":
        raise ConfigError(f"phase is {trial.phase!r}, but {benchmark} has none; leave it out.")
    return known, replace(
        trial,
        size=size,
        runs=trial.runs or known.runs,
        most=trial.most or known.most,
        shots=trial.shots or 5,
        folds=FOLDS[benchmark] if trial.folds is None else trial.folds,
    )


def _bundles(
    bundle: Bundle | str | Path, folds: tuple[int, ...] | None
) -> dict[int | None, Bundle | str | Path]:
    """The bundle of each fold; files are there."""
    if folds is None:
        return {None: bundle}
    if len(folds) > 1 and (isinstance(bundle, Bundle) or "{fold}" not in str(bundle)):
        raise ConfigError(
            f"Each of the folds {', '.join(map(str, folds))} needs a bundle of its own, which has "
            "not seen its novel classes. Name their files with {fold} for the number, such as "
            "base-{fold}.safetensors, or choose one fold."
        )
    found: dict[int | None, Bundle | str | Path] = {
        fold: bundle
        if isinstance(bundle, Bundle)
        else Path(str(bundle).replace("{fold}", str(fold)))
        for fold in folds
    }
    lost = [str(path) for path in found.values() if isinstance(path, Path) and not path.is_file()]
    if lost:
        raise InputError(f"{', '.join(lost)}: no such file; expected the bundle of each fold.")
    return found


def _episodes(
    benchmark: str, root: Path, fold: int | None, trial: FewShotTrial, progress: Progress
) -> Iterator[Episode]:
    """The episodes of a fold, one per run."""
    from covermap.data.few_shot import fold_episode, oem_episode

    if fold is None:
        yield _first_shots(oem_episode(root, trial.phase), trial.shots)
        return
    for run in range(trial.runs or 1):
        yield fold_episode(
            root,
            benchmark,
            fold,
            shots=trial.shots or 5,
            run=run,
            seed=trial.seed,
            most=trial.most,
            progress=progress,
        )


def _first_shots(episode: Episode, shots: int | None) -> Episode:
    """The episode with the first of its support images."""
    if shots is None:
        return episode
    few = [name for name, items in episode.support.items() if len(items) < shots]
    if few:
        raise ConfigError(
            f"shots is {shots}, but {episode.name} has fewer support images of "
            f"{', '.join(few)}. Ask for fewer shots, or leave the number out to use all."
        )
    return replace(episode, support={name: i[:shots] for name, i in episode.support.items()})


def _title(benchmark: str, trial: FewShotTrial) -> str:
    name = f"{benchmark} {trial.phase}" if benchmark == "oem" else benchmark
    shots = "all shots" if trial.shots is None else f"{trial.shots} shot{'s' * (trial.shots > 1)}"
    return f"{name}, {shots}, {trial.method}"


def _told(
    trial: FewShotTrial, config: Any, bundles: Mapping[int | None, Bundle | str | Path]
) -> dict[str, Any]:
    """What the scores depend on, as plain values."""
    names = [item.digest if isinstance(item, Bundle) else str(item) for item in bundles.values()]
    return {**asdict(trial), "settings": asdict(config), "bundles": names}
