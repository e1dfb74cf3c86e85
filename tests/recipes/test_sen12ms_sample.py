"""Two real patches of SEN12MS go the whole way: read, learned from, mapped, looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from covermap import api
from covermap.data.s1s2 import parse_name
from covermap.mapping.patches import PatchSettings

SETTINGS = (
    *("data.split={method: none}", "training.epochs=1", "training.patches_per_epoch=24"),
    *("training.workers=0", "training.val_patch=null", "training.validate_every=1"),
)


@pytest.fixture
def tree(shared_data: Path, tmp_path: Path) -> Path:
    """The patches in SEN12MS's folders; Sentinel-2 and coarse labels only."""
    for kind, folder in (("s2", "images"), ("lc", "labels")):
        for path in (shared_data / "sen12ms_sample" / folder).glob("*.tif"):
            parts = parse_name(path.name)
            assert parts is not None
            place = tmp_path / "tree" / parts.region / f"{kind}_{parts.scene}"
            place.mkdir(parents=True)
            (place / path.name).symlink_to(path)
    return tmp_path / "tree"


def test_the_whole_way(tree: Path, tmp_path: Path) -> None:
    run = api.train("dfc2020-light", tmp_path / "run", data=tree, overrides=SETTINGS)
    events = (run.path / "log.jsonl").read_text()
    assert '"loss/proportions"' in events
    image = next(tree.glob("ROIs1970_fall/s2_4/*.tif"))
    api.map_raster(run.bundle, image, tmp_path / "map.tif")
    with rasterio.open(image) as source, rasterio.open(tmp_path / "map.tif") as made:
        assert (made.crs, made.transform, made.shape) == (
            source.crs,
            source.transform,
            source.shape,
        )
        assert set(np.unique(made.read(1))) <= set(run.bundle.legend.values)
    paths = api.predict(
        run.bundle,
        "dfc2020-light",
        tmp_path / "predictions",
        data=tree,
        split="all",
        overrides=SETTINGS,
        settings=PatchSettings(form="dfc2020"),
        previews=tmp_path / "look",
    )
    assert sorted(path.name for path in paths) == [
        "ROIs1970_fall_lc_4_p30.tif",
        "ROIs2017_winter_lc_27_p36.tif",
    ]
    with rasterio.open(paths[0]) as made:
        assert made.crs is not None
        assert made.dtypes == ("uint8",)
    pictures = sorted((tmp_path / "look").glob("*.png"))
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.width > 3 * 256
