"""A tiny data set in FLAIR's form, and the YAML files of FLAIR that speak of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from affine import Affine

MEANS = [105.08, 110.87, 101.82, 106.38, 53.26]
STDS = [52.17, 45.38, 44, 39.69, 79.3]
NAMES = (
    *("building", "pervious surface", "impervious surface", "bare soil", "water", "coniferous"),
    *("deciduous", "brushwood", "vineyard", "herbaceous vegetation", "agricultural land"),
    *("plowed land", "swimming_pool", "snow", "clear cut", "mixed", "ligneous", "greenhouse"),
    "other",
)
LAMBERT = "EPSG:2154"
ENCODER = "tu-test_resnet"
"""Few weights, and a name with underscores and a hyphen."""


def write_patch(path: Path, array: np.ndarray, left: float) -> Path:
    """Write (C, H, W) at 0.2 m in Lambert-93."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = array.shape
    transform = Affine(0.2, 0, left, 0, -0.2, 6_600_000)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=array.dtype,
        crs=LAMBERT,
        transform=transform,
    ) as file:
        file.write(array)
    return path


def make_data(root: Path, side: int = 64, bands: int = 5) -> Path:
    """Bright ground is building (1), dark is water (5); 3 train, 1 val, 2 test patches."""
    rng = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, split in enumerate(["train"] * 3 + ["val"] + ["test"] * 2):
        domain = f"D0{number % 2 + 1}0_2021"
        bright = rng.random((side // 8, side // 8)) > 0.5
        bright = np.kron(bright, np.ones((8, 8), bool))
        image = np.where(bright, 180, 60) + rng.integers(-20, 20, (bands, side, side))
        left = 700_000 + 0.2 * side * number
        stem = f"{number + 1:06d}"
        folder = root / domain / "Z1_UN"
        write_patch(folder / "img" / f"IMG_{stem}.tif", image.astype(np.uint8), left)
        mask = np.where(bright, 1, 5).astype(np.uint8)[None]
        write_patch(folder / "msk" / f"MSK_{stem}.tif", mask, left)
        lists[split].append(f"{domain}/Z1_UN/img/IMG_{stem}.tif,{domain}/Z1_UN/msk/MSK_{stem}.tif")
    for split, lines in lists.items():
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def training_file(path: Path, **changes: Any) -> Path:
    """The file of `flair` with IGN's keys; `changes` go to its top level, or by dotted name."""
    document: dict[str, Any] = {
        "paths": {
            "out_folder": "results",
            "out_model_name": "tiny",
            "train_csv": "train.csv",
            "val_csv": "val.csv",
            "test_csv": "test.csv",
            "ckpt_model_path": "",
            "path_metadata_aerial": None,
        },
        "tasks": {
            "train": True,
            "train_tasks": {
                "init_weights_only_from_ckpt": False,
                "resume_training_from_ckpt": False,
            },
            "predict": True,
            "metrics": True,
            "delete_preds": True,
        },
        "model_framework": {
            "model_provider": "SegmentationModelsPytorch",
            "HuggingFace": {"org_model": None},
            "SegmentationModelsPytorch": {"encoder_decoder": f"{ENCODER}_unet"},
        },
        "use_augmentation": True,
        "use_metadata": False,
        "channels": [1, 2, 3, 4, 5],
        "norm_type": "custom",
        "norm_means": MEANS,
        "norm_stds": STDS,
        "seed": 2022,
        "batch_size": 3,
        "learning_rate": 0.02,
        "num_epochs": 1,
        "use_weights": True,
        "supervision_starts_at_one": True,
        "classes": {
            number + 1: [0 if name in ("ligneous", "other") else 1, name]
            for number, name in enumerate(NAMES)
        },
        "georeferencing_output": True,
        "accelerator": "gpu",
        "num_nodes": 1,
        "gpus_per_node": 1,
        "strategy": None,
        "num_workers": 0,
        "ckpt_save_also_last": True,
        "ckpt_verbose": False,
        "ckpt_weights_only": False,
        "ckpt_monitor": "val_loss",
        "ckpt_monitor_mode": "min",
        "ckpt_earlystopping_patience": 30,
        "cp_csv_and_conf_to_output": True,
        "enable_progress_bar": True,
        "progress_rate": 10,
    }
    return _write(path, document, changes)


def detection_file(path: Path, **changes: Any) -> Path:
    """The file of `flair-detect` with IGN's keys."""
    document: dict[str, Any] = {
        "output_path": "maps",
        "output_name": "zone",
        "input_img_path": "zone.tif",
        "channels": [1, 2, 3, 4, 5],
        "img_pixels_detection": 64,
        "margin": 16,
        "output_type": "argmax",
        "n_classes": 19,
        "model_weights": "model.pth",
        "model_framework": {
            "model_provider": "SegmentationModelsPytorch",
            "HuggingFace": {"org_model": None},
            "SegmentationModelsPytorch": {"encoder_decoder": f"{ENCODER}_unet"},
        },
        "batch_size": 4,
        "use_gpu": True,
        "num_worker": 2,
        "write_dataframe": False,
        "norma_task": [{"norm_type": "custom", "norm_means": MEANS, "norm_stds": STDS}],
    }
    return _write(path, document, changes)


def _write(path: Path, document: dict[str, Any], changes: dict[str, Any]) -> Path:
    for key, value in changes.items():
        *sections, last = key.split("__")
        here = document
        for section in sections:
            here = here[section]
        if value is ...:
            del here[last]
        else:
            here[last] = value
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
