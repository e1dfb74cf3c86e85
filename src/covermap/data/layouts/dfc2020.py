"""DFC2020: patches of Sentinel-1 and -2 with land cover at 10 m, for validation and test."""

from __future__ import annotations

from pathlib import Path

from covermap.data.index import PatchIndex
from covermap.data.layouts import s1s2_tree as tree
from covermap.data.s1s2 import PARTS, Key
from covermap.errors import InputError
from covermap.legend import load_legend

_SPLITS = ("train", "val", "test", "none")


def dfc2020(
    root: Path,
    sensors: str = "auto",
    labels: str = "dfc",
    validation: str = "val",
    test: str = "test",
    missing: str = "error",
) -> PatchIndex:
    """Read DFC2020: files such as `ROIs0000_test_s2_0_p12.tif`.

    Patches are put together by the parts of their files' names, so the folders may be called
    `ROIs0000_test/s2_0`, `test/s2_test` or otherwise. A record is called by its Sentinel-2 file
    (Sentinel-1 where there is none); its area is the scene, `ROIs0000_test/0`.

    Args:
        root: folder of the data set, or one of its folders.
        sensors: both, s1 or s2; auto is both where there are files of both.
        labels: dfc, the land cover at 10 m (`legend: auto` is `dfc2020`); lc, MODIS land cover as
            in SEN12MS (`igbp`); or none for imagery alone.
        validation: split of the validation patches: train (to learn from their labels), val, test,
            or none to leave them out.
        test: split of the test patches, likewise.
        missing: error or skip: what to do with patches that lack one of their files.

    Returns:
        The index, in natural order (p2 before p10), with the names of the files' bands.

    Raises:
        InputError: there are no such files, some are missing, or a folder cannot be listed.
        BandError: files have other bands than Sentinel-1 or -2, or differ in them.
        ConfigError: an option is not valid.
    """
    tree.check_choice("sensors", sensors, tree.SENSORS)
    tree.check_choice("labels", labels, ("dfc", "lc", "none"))
    splits = {"validation": validation, "test": test}
    for part, split in splits.items():
        tree.check_choice(part, split, _SPLITS)
    root = root.absolute()
    words = [part for part in PARTS if splits[part] != "none"]
    kinds = ("s2", "s1") if sensors in ("auto", "both") else (sensors,)
    wanted = () if labels == "none" else (labels,)
    found = tree.find_files(root, words, (*kinds, *wanted))
    if not any(found[kind] for kind in kinds):
        raise InputError(
            f"{root}: no patches of DFC2020 ({', '.join(words) or 'no part is asked for'}) below "
            "it; expected files such as ROIs0000_test/s2_0/ROIs0000_test_s2_0_p12.tif."
        )
    chosen = tree.choose_sensors(found, sensors, str(root))
    keys = tree.complete(found, chosen, labels, missing, str(root))

    def split_of(key: Key) -> str:
        return splits[key[0].rpartition("_")[2]]

    records = tree.make_records(found, keys, chosen, labels, split_of)
    legend = {"dfc": "dfc2020", "lc": "igbp"}.get(labels)
    return PatchIndex(
        records,
        root,
        legend=load_legend(legend) if legend else None,
        bands=tree.band_names(root, records, chosen),
        label_field="1" if labels == "lc" else None,
    )


def is_dfc2020(root: Path) -> bool:
    """Whether a folder holds patches of DFC2020 in folders such as `s2_test`."""
    return tree.holds_region(root, PARTS)
