"""Pictures of predicted patches: the right bands, colours and places; never a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covermap.assessment.patch_previews import side_by_side, write_patch_previews
from covermap.data.collection import Collection
from covermap.data.layouts import read_layout
from covermap.legend import load_legend
from covermap.mapping.patches import prediction_path
from covermap.sensors import load_sensor
from s1s2_trees import change, write_patch

from .conftest import make_raster

LEGEND = load_legend("dfc2020")
SIDE = 64


def ramp(pixels: np.ndarray) -> np.ndarray:
    """Red grows to the right, green downwards, blue is a checkerboard; VV grows to the right."""
    rows, cols = np.indices(pixels.shape[1:])
    if len(pixels) == 2:
        return (-20 + np.stack([cols, -cols]) / 8).astype(pixels.dtype)
    pixels[3], pixels[2], pixels[1] = 100 * cols, 100 * rows, 6000 * ((rows + cols) % 2)
    return pixels


def prepare(root: Path, sensors: str = "auto", labels: str = "dfc") -> Collection:
    write_patch(root, "ROIs0000_test", 0, 1, ("s1", "s2", "dfc"), side=SIDE)
    for kind in ("s1", "s2"):
        change(root, f"*_{kind}_0_p1.tif", ramp)
    index = read_layout(root, "dfc2020", {"sensors": sensors, "labels": labels})
    return Collection(index, index.legend, load_sensor("sentinel-1-2"), index.bands)


def predict(collection: Collection, folder: Path, index: np.ndarray) -> None:
    (record,) = collection.index
    path = prediction_path(folder, record, "dfc2020")
    path.parent.mkdir(exist_ok=True)
    make_raster(path, LEGEND.decode(index))


def show(collection: Collection, tmp_path: Path) -> np.ndarray:
    (path,) = write_patch_previews(
        tmp_path / "preds", collection, LEGEND, tmp_path / "look", form="dfc2020"
    )
    assert path.name == "ROIs0000_test_dfc_0_p1.png"
    return np.asarray(Image.open(path).convert("RGB"), int)


def panels(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The pictures, each 256 pixels wide, where the layout puts them."""
    return [picture[24:280, 12 + i * 268 : 12 + i * 268 + 256][2::4, 2::4] for i in range(count)]


@pytest.fixture
def index() -> np.ndarray:
    index = np.zeros((SIDE, SIDE), np.uint8)
    index[:, 32:] = 9
    index[:8] = 255
    return index


def test_image_prediction_and_label(tmp_path: Path, index: np.ndarray) -> None:
    collection = prepare(tmp_path / "dfc")
    predict(collection, tmp_path / "preds", index)
    image, prediction, label = panels(show(collection, tmp_path), 3)
    assert image[30, 60, 0] > image[30, 4, 0] + 150
    assert image[60, 30, 1] > image[4, 30, 1] + 150
    assert abs(image[30, 30, 2] - image[30, 31, 2]) > 150
    assert (prediction[8:, :32] == LEGEND.colors[0]).all()
    assert (prediction[8:, 32:] == LEGEND.colors[9]).all()
    assert (prediction[:8] == 255).all()
    assert (label == LEGEND.colors[1]).all()


def test_sentinel_1_alone_is_grey_vv(tmp_path: Path, index: np.ndarray) -> None:
    collection = prepare(tmp_path / "dfc", "s1", "none")
    predict(collection, tmp_path / "preds", index)
    picture = show(collection, tmp_path)
    image, _ = panels(picture, 2)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    assert image[30, 60, 0] > image[30, 4, 0] + 150  # VH falls


def test_labels_of_another_legend_are_shown_by_their_remap(
    tmp_path: Path, index: np.ndarray
) -> None:
    collection = prepare(tmp_path / "dfc")
    predict(collection, tmp_path / "preds", index)
    coarse = Collection(collection.index, load_legend("igbp"), collection.sensor, collection.bands)
    label = panels(show(coarse, tmp_path), 3)[2]
    assert (label == LEGEND.colors[0]).all()  # the value 2 is Evergreen Broadleaf Forest


def test_the_key_names_every_class() -> None:
    empty = np.zeros((4, 4, 4), np.uint8)
    picture = side_by_side([("image", empty)], LEGEND)
    assert picture.dtype == np.uint8
    assert (picture[..., 3] == 255).all()
    for color in LEGEND.colors:
        assert (picture[..., :3] == color).all(axis=-1).sum() >= 100


def test_a_large_patch_is_shrunk() -> None:
    large = np.full((1000, 800, 4), 200, np.uint8)
    height, width = side_by_side([("a", large), ("b", large)], LEGEND).shape[:2]
    assert height < 600
    assert width < 1100
