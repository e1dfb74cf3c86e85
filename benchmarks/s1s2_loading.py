"""What it costs to load a patch of SEN12MS, and to count its pixels in a confusion matrix.

    python benchmarks/s1s2_loading.py                   # 48 made-up patches of 256 × 256, 15 bands
    python benchmarks/s1s2_loading.py --patches 200 --rounds 5

All times are CPU time of one thread, per patch; of several rounds the least counts, and the ways
take turns in each round. A patch is a Sentinel-2 file (13 bands, uint16), a Sentinel-1 file (2
bands, float32) and a label (4 bands), all deflated. The first table compares:

- decoding: the three files opened and the bands that are needed read with rasterio: the floor;
- plain loop: opens, reads, scales each file in float64 and puts them together;
- covermap, from disk: as training sees a patch for the first time, nothing known of its files:
  headers checked, read by name, masked, clipped, labels by their legend, normalised;
- covermap, held in memory: the same where the images fit into `training.cache`.

The second compares `ConfusionMatrix.update` with scikit-learn's `confusion_matrix`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from sklearn.metrics import confusion_matrix

from covermap.data.collection import Collection
from covermap.data.layouts import read_layout
from covermap.data.reading import RecordReader
from covermap.legend import load_legend
from covermap.models.normalise import normalise
from covermap.scores import ConfusionMatrix
from covermap.sensors import load_sensor

SIDE = 256


def write_tree(root: Path, patches: int) -> None:
    """Write patches of smooth fields with noise, in the folders and names of SEN12MS."""
    rng = np.random.default_rng(0)
    for number in range(1, patches + 1):
        coarse = rng.integers(1, 18, (6, 6)).repeat(50, 0).repeat(50, 1)[:SIDE, :SIDE]
        light = 300 + 150 * coarse + rng.normal(0, 60, (13, SIDE, SIDE))
        echo = -20 + 0.6 * coarse + rng.normal(0, 1.5, (2, SIDE, SIDE))
        label = np.stack([coarse, coarse % 7, coarse % 5, coarse % 3])
        for kind, pixels, dtype in (
            ("s2", light, "uint16"),
            ("s1", echo, "float32"),
            ("lc", label, "uint8"),
        ):
            folder = root / "ROIs1158_spring" / f"{kind}_1"
            folder.mkdir(parents=True, exist_ok=True)
            with rasterio.open(
                folder / f"ROIs1158_spring_{kind}_1_p{number}.tif", "w", driver="GTiff",
                height=SIDE, width=SIDE, count=len(pixels), dtype=dtype, compress="deflate",
                crs="EPSG:32632", transform=Affine(10, 0, 5e5 + 2560 * number, 0, -10, 5e6),
            ) as file:  # fmt: skip
                file.write(pixels.astype(dtype))


def decode(paths: tuple[Path, ...]) -> None:
    """Open and decode, and nothing else."""
    for path, bands in zip(paths, (None, None, 1), strict=True):
        with rasterio.open(path) as file:
            file.read(bands)


def plain(paths: tuple[Path, ...], classes: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Open, read, scale in float64, stack."""
    with rasterio.open(paths[0]) as file:
        light = np.clip(file.read().astype(np.float64), 0, 10000) / 10000
    with rasterio.open(paths[1]) as file:
        echo = np.nan_to_num(file.read().astype(np.float64))
        echo = np.clip(echo, -25, 0) / 25 + 1
    with rasterio.open(paths[2]) as file:
        label = classes[file.read(1)]
    image = np.concatenate([light, echo]).astype(np.float32)
    return torch.from_numpy(image), torch.from_numpy(label.astype(np.int64))


def compare(cases: dict[str, Callable[[], None]], count: int, rounds: int) -> dict[str, float]:
    """Least CPU milliseconds per item of each case, each of which does all items."""
    times = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, work in cases.items():
            began = time.process_time()
            work()
            times[name] = min(times[name], 1000 * (time.process_time() - began) / count)
    return times


def time_loading(root: Path, rounds: int) -> None:
    """Print the first table."""
    sensor, index = load_sensor("dfc2020-baseline"), read_layout(root, "sen12ms")
    collection = Collection(
        index, load_legend("igbp"), sensor, index.bands, label_field=index.label_field
    )
    paths = [
        tuple(Path(index.resolve(path)) for path in (*record.images, str(record.label)))
        for record in index
    ]
    classes = np.full(256, 255)
    classes[1:18] = np.arange(17)

    def load(reader: RecordReader, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        record = index[number]
        piece = reader.read_window(record, reader.window(record))
        label = torch.from_numpy(np.asarray(piece.label, np.int64))
        return normalise(piece.pixels, piece.valid, sensor.bands), label

    def load_all(reader: RecordReader) -> None:
        for number in range(len(index)):
            load(reader, number)

    held = RecordReader(collection)
    held.load()
    for number in range(3):  # all ways give the same
        for reader in (held, RecordReader(collection, cache=0)):
            for ours, theirs in zip(
                load(reader, number), plain(paths[number], classes), strict=True
            ):
                torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    times = compare(
        {
            "decoding alone": lambda: [decode(path) for path in paths] and None,
            "plain loop, float64": lambda: [plain(path, classes) for path in paths] and None,
            "covermap, from disk": lambda: load_all(RecordReader(collection, cache=0)),
            "covermap, held in memory": lambda: load_all(held),
        },
        len(index),
        rounds,
    )
    print(f"{f'{SIDE}² × 15 bands and a label':34}{'CPU ms':>10}{'of the loop':>14}")
    for name, value in times.items():
        print(f"{name:34}{value:10.2f}{value / times['plain loop, float64']:14.2f}")


def time_counting(count: int, rounds: int) -> None:
    """Print the second table."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 9, (count, SIDE, SIDE)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, 8 - truth).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    pairs = list(zip(truth, predicted, strict=True))

    def sklearn() -> None:
        for one, other in pairs:
            valid = one != 255
            confusion_matrix(one[valid], other[valid], labels=range(9))

    def ours() -> None:
        matrix = ConfusionMatrix(9)
        for one, other in pairs:
            matrix.update(one, other)

    times = compare({"scikit-learn": sklearn, "covermap": ours}, count, rounds)
    print(f"\n{f'confusion matrix of {SIDE}² pixels':34}{'CPU ms':>10}{'times faster':>14}")
    for name, value in times.items():
        print(f"{name:34}{value:10.3f}{times['scikit-learn'] / value:14.1f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--patches", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), options.patches)
        time_loading(Path(folder), options.rounds)
    time_counting(options.patches, options.rounds)


if __name__ == "__main__":
    main()
