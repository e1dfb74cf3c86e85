"""SEN12MS: triplets of Sentinel-1, Sentinel-2 and MODIS land cover, by season and scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from covermap.data.index import PatchIndex
from covermap.data.layouts import s1s2_tree as tree
from covermap.data.s1s2 import SEASONS, Key
from covermap.errors import InputError
from covermap.folds import SEN12MS_HOLDOUT
from covermap.legend import load_legend


def sen12ms(
    root: Path,
    sensors: str = "auto",
    labels: str = "lc",
    holdout: str = "val",
    seasons: Sequence[str] = (),
    missing: str = "error",
) -> PatchIndex:
    """Read SEN12MS, or any part of it: files such as `ROIs1158_spring_s2_63_p30.tif`.

    Patches are put together by the parts of their files' names, wherever these lie below the root.
    A record is called by its Sentinel-2 file (Sentinel-1 where there is none); its area is the
    scene, `ROIs1158_spring/63`. Band 1 of the labels is MODIS land cover in IGBP's classes
    (`legend: auto` is `igbp`). The patch 202 of summer's scene 146 holds NaN and is left out.

    Args:
        root: folder of the data set; some of its seasons, or one of its folders, will do.
        sensors: both, s1 or s2; auto is both where there are files of both.
        labels: lc, or none for imagery alone.
        holdout: split of the official hold-out scenes, val or test, with all others for training;
            none for records without a split.
        seasons: those to read, such as [spring, ROIs1970_fall]; empty for all there are.
        missing: error or skip: what to do with patches that lack one of their files.

    Returns:
        The index, in natural order (p2 before p10), with the names of the files' bands.

    Raises:
        InputError: there are no such files, some are missing, or a folder cannot be listed.
        BandError: files have other bands than Sentinel-1 or -2, or differ in them.
        ConfigError: an option is not valid.
    """
    tree.check_choice("sensors", sensors, tree.SENSORS)
    tree.check_choice("labels", labels, ("lc", "none"))
    tree.check_choice("holdout", holdout, ("val", "test", "none"))
    root = root.absolute()
    words = [_word(season) for season in ([seasons] if isinstance(seasons, str) else seasons)]
    kinds = ("s2", "s1") if sensors in ("auto", "both") else (sensors,)
    found = tree.find_files(root, words or SEASONS, (*kinds, *({"lc"} & {labels})))
    if not any(found[kind] for kind in kinds):
        raise InputError(
            f"{root}: no patches of {'SEN12MS' if not words else ', '.join(words)} below it; "
            "expected files such as ROIs1158_spring/s2_63/ROIs1158_spring_s2_63_p30.tif."
        )
    chosen = tree.choose_sensors(found, sensors, str(root))
    keys = tree.complete(found, chosen, labels, missing, str(root))
    held = {(region, scene) for region, scenes in SEN12MS_HOLDOUT.items() for scene in scenes}

    def split(key: Key) -> str:
        if holdout == "none":
            return ""
        return holdout if key[:2] in held else "train"

    records = tree.make_records(found, keys, chosen, labels, split)
    return PatchIndex(
        records,
        root,
        legend=load_legend("igbp") if labels == "lc" else None,
        bands=tree.band_names(root, records, chosen),
        label_field="1" if labels == "lc" else None,
    )


def is_sen12ms(root: Path) -> bool:
    """Whether a folder holds patches of SEN12MS in folders such as `s2_63`."""
    return tree.holds_region(root, SEASONS)


def _word(season: str) -> str:
    """The word of a season that is named by it or by its folder."""
    word = str(season).rpartition("_")[2].lower()
    tree.check_choice("seasons", word, SEASONS)
    return word
