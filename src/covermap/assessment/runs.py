"""The last step of a training run: scores on data that it did not learn from, and the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from covermap.assessment.collection import score_collection
from covermap.assessment.report import PictureRow, Report, write_report
from covermap.assessment.result import Assessment
from covermap.data.collection import Datasets
from covermap.learning.run import RunDirectory
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress
from covermap.raster.writing import write_text_atomic


def assess_run(
    title: str,
    bundle: Bundle,
    data: Datasets,
    run: RunDirectory,
    *,
    recipe: str = "",
    progress: Progress = SILENT,
) -> Assessment | None:
    """Score a run's bundle and write its report and its scores.

    The test records are used where there are any, else those for validation (which the selection
    of the weights has seen).

    Args:
        title: name of the run.
        bundle: what the run made.
        data: its data sets.
        run: where it lies.
        recipe: the resolved recipe, shown in the report.
        progress: shows what is under way.

    Returns:
        The scores; None where all labels were learned from.

    Raises:
        InputError: an image cannot be read.
        OutputError: the report cannot be written.
    """
    split = "test" if data.test is not None else "val" if data.val is not None else None
    assessment: Assessment | None = None
    pictures: tuple[PictureRow, ...] = ()
    if split is not None:
        collection = getattr(data, split)
        assessment, pictures = score_collection(
            bundle, collection, name=f"{title} on {split}", progress=progress
        )
        write_text_atomic(
            run.scores_path, json.dumps({split: assessment.to_dict()}, indent=2) + "\n"
        )
    against = "" if split is None or collection.coarse is None else collection.coarse.about
    report = Report(
        title=title,
        subtitle=f"Trained on {len(data.train)} records, scored on {split or 'nothing'}"
        + (f" against {against}" if against else ""),
        assessment=assessment,
        legend=bundle.legend,
        pictures=pictures,
        events=tuple(read_events(run.log_path)),
        details=details_of(bundle),
        recipe=recipe,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_report(run.report_path, report)
    return assessment


def read_events(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read the events of a run's log; a last line that was cut short is left out.

    Args:
        path: the JSON-lines log.

    Yields:
        The events in order.
    """
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def details_of(bundle: Bundle) -> dict[str, str]:
    """Names and values that a report shows of a bundle."""
    card = bundle.card
    parameters = sum(tensor.numel() for tensor in bundle.model.parameters())
    return {
        "network": f"{card.model.family}: "
        + ", ".join(f"{key} {value}" for key, value in card.model.options.items()),
        "parameters": f"{parameters:,}",
        "bands": ", ".join(bundle.band_names),
        "ground sampling distance": "unknown" if card.gsd is None else f"{card.gsd:g} m",
        "tile and margin": f"{card.tile} and {card.margin} pixels",
        "training data": card.provenance.data_fingerprint,
        "versions": ", ".join(f"{key} {value}" for key, value in card.provenance.versions.items()),
    }
