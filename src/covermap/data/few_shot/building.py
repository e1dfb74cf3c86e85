"""Making the lists of few-shot data sets from their folders, where none came with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from covermap.data.episodes import EpisodeNames, FewShotImage, write_episode_file
from covermap.data.few_shot.finding import look_below
from covermap.data.few_shot.folds import LEAST, draw_support
from covermap.data.few_shot.pairs import Areas, label_areas
from covermap.data.files import IMAGE_SUFFIXES, list_files, some
from covermap.errors import ConfigError, InputError, OutputError, nearest
from covermap.legend import IGNORE
from covermap.progress import SILENT, Progress
from covermap.raster.writing import write_text_atomic

_NOVEL = (8, 9, 10, 11)
_PARTS = ("train", "val", "test")
_PASCAL = ("JPEGImages", "SegmentationClassAug")
_VAL_NAMES = Path("ImageSets", "Segmentation", "val.txt")


def build_lists(
    name: str,
    root: str | Path,
    *,
    shots: int = 5,
    least: int = LEAST,
    seed: int = 0,
    progress: Progress = SILENT,
) -> str:
    """Make the lists of a data set in its root; lists that exist are never replaced.

    Args:
        name: `oem-fewshot`, `pascal` or `coco`.
        root: folder of the data set.
        shots: support images per novel class, for `oem-fewshot`.
        least: pixels of its class that a support image shows at least, for `oem-fewshot`.
        seed: of the choice of support, for `oem-fewshot`.
        progress: shows the reading of labels.

    Returns:
        What was written, and by which rule.

    Raises:
        ConfigError: there is no such data set.
        InputError: images or labels are missing, or no image can be support of a class.
        OutputError: a list exists already, or cannot be written.
    """
    root = Path(root)
    if name == "oem-fewshot":
        texts = _oem(root, shots, least, seed, progress)
    elif name == "pascal":
        texts = _pascal(root)
    elif name == "coco":
        texts = _coco(root)
    else:
        known = ("oem-fewshot", "pascal", "coco")
        raise ConfigError(
            f"{name!r}: no lists of it can be made.{nearest(name, known)} Known: "
            f"{', '.join(known)}."
        )
    return "\n".join(texts)


def _oem(root: Path, shots: int, least: int, seed: int, progress: Progress) -> list[str]:
    """Training: labels without an id above 7. Support: one id above 7. Queries: the rest."""
    tree = look_below(root)
    items = tree.pairs(sorted(tree.images), str(root), labelled=False)
    areas: dict[str, Areas] = {}
    with progress.task("classes of labels", len(items)) as task:
        for item in items:
            if item.label is not None:
                areas[item.id] = label_areas(item.label)
                areas[item.id].pop(IGNORE, None)
            task.advance()
    parts = {item.id: _part(item, root) for item in items}
    base = [i for i in items if i.id in areas and 0 < max(areas[i.id], default=0) < min(_NOVEL)]
    train = [item for item in base if parts[item.id] in ("", "train")]
    texts = []
    if train:
        lines = "".join(f"{item.image.name}\n" for item in train)
        write_text_atomic(_new(root / "train.txt"), lines)
        texts.append(f"train.txt: {len(train)} images whose labels hold no id above 7")
    for phase in ("val", "test"):
        own = [i for i in items if parts[i.id] == phase]
        if phase == "val":
            own += [i for i in items if parts[i.id] == "" and i not in base]
        if any(set(_NOVEL) & areas.get(item.id, {}).keys() for item in own):
            texts.append(_write_phase(root, phase, own, areas, (shots, least, seed)))
    if not texts:
        raise InputError(f"{root}: no label holds an id from 1 to 11; nothing can be listed.")
    return texts


def _part(item: FewShotImage, root: Path) -> str:
    """The part that an image's folder tells (trainset, valset, testset), or nothing."""
    folders = item.image.relative_to(root).parts[:-1]
    return next((part for f in folders for part in _PARTS if f.lower().startswith(part)), "")


def _write_phase(
    root: Path,
    phase: str,
    items: Sequence[FewShotImage],
    areas: dict[str, Areas],
    choice: tuple[int, int, int],
) -> str:
    """Draw support, from labels in the published form (a novel class and nothing else) first."""
    shots, least, seed = choice
    labelled = [item for item in items if item.id in areas]
    support: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for code in _NOVEL:
        pure = [item for item in labelled if set(areas[item.id]) <= {0, code}]
        enough = sum(areas[item.id].get(code, 0) >= least for item in pure) >= shots
        pool = pure if enough else labelled
        found = draw_support(
            pool, [areas[item.id] for item in pool], code, _NOVEL, shots, (seed,), least
        )
        unique = tuple(dict.fromkeys(found))
        support[str(code)] = tuple(item.image.name for item in unique)
        taken |= {item.id for item in unique}
    queries = tuple(item.image.name for item in items if item.id not in taken)
    write_episode_file(_new(root / f"{phase}.json"), EpisodeNames(support, queries))
    return (
        f"{phase}.json: {len(taken)} support images, drawn with seed {seed} among labels with at "
        f"least {least:,} pixels of one novel class and none of another, those that hold nothing "
        f"else first; {len(queries)} queries, all other images"
    )


def _pascal(root: Path) -> list[str]:
    """Validation: the names in ImageSets/Segmentation/val.txt. Training: all other labels."""
    pairs = _pairs(root, *_PASCAL)
    path = root / _VAL_NAMES
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. It comes with PASCAL VOC 2012 and says which images validate; "
            "put it there."
        )
    wanted = path.read_text(encoding="utf-8").split()
    lost = [name for name in wanted if name not in pairs]
    if lost:
        raise InputError(f"{path}: image or label is missing of {len(lost)} names: {some(lost)}.")
    val = {name: pairs[name] for name in wanted}
    train = {name: line for name, line in pairs.items() if name not in val}
    rules = {"train": "labelled images that do not validate", "val": f"the names in {_VAL_NAMES}"}
    return [
        _write_pairs(root, split, lines.values(), rules[split])
        for split, lines in (("train", train), ("val", val))
    ]


def _coco(root: Path) -> list[str]:
    """Training and validation: the masks in `train` and `val` with their images."""
    return [
        _write_pairs(
            root,
            split,
            _pairs(root, f"{split}2014", split).values(),
            f"images with a mask in {split}",
        )
        for split in ("train", "val")
        if (root / split).is_dir() or split == "val"
    ]


def _pairs(root: Path, images: str, labels: str) -> dict[str, str]:
    """Lines of a list by the name that image and label share."""
    found = {path.stem: path.name for path in list_files(root / images, IMAGE_SUFFIXES, "images")}
    masks = list_files(root / labels, (".png",), "labels")
    lost = [path.name for path in masks if path.stem not in found]
    if lost:
        raise InputError(
            f"{root / labels}: {len(lost)} labels have no image in {images}: {some(lost)}."
        )
    return {p.stem: f"{images}/{found[p.stem]} {labels}/{p.name}\n" for p in masks}


def _write_pairs(root: Path, split: str, lines: Iterable[str], rule: str) -> str:
    texts = list(lines)
    write_text_atomic(_new(root / f"{split}.txt"), "".join(texts))
    return f"{split}.txt: {len(texts)} images: {rule}"


def _new(path: Path) -> Path:
    if path.exists():
        raise OutputError(f"{path}: exists already. Remove it to have it made anew.")
    return path
