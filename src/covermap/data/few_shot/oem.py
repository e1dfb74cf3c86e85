"""The OpenEarthMap few-shot challenge (2024): its base-training images and its two phases."""

from __future__ import annotations

from pathlib import Path

from covermap.data.episodes import Episode, FewShotImage, read_episode_file
from covermap.data.few_shot.finding import Tree, look_below
from covermap.errors import ConfigError, InputError, nearest
from covermap.legend import Legend, load_legend

PHASES = ("val", "test")
"""The phases of the challenge; each has its own novel classes."""


def oem_legend(phase: str) -> Legend:
    """Return the legend of a phase: `other`, seven base classes, four novel ones, values 0 to 11.

    Args:
        phase: `val` or `test`.

    Raises:
        ConfigError: there is no such phase.
    """
    _check_phase(phase)
    novel = load_legend(f"oem-fewshot-{phase}").classes
    return load_legend("oem-fewshot-train").extend(novel, f"oem-fewshot-{phase}-all")


def oem_episode(root: str | Path, phase: str = "val", episodes: str = "") -> Episode:
    """Read a phase of the challenge.

    Images and labels are found by name in folders called `images` and `labels` at any depth below
    the root, so archives may lie as they were unpacked. The groups of the episodes file belong to
    the novel classes by their position.

    Args:
        root: folder of the data set.
        phase: `val` or `test`: says which novel classes.
        episodes: name or path of the episodes file; `val.json` or `test.json` by default.

    Returns:
        The episode; queries without a label are part of it.

    Raises:
        ConfigError: there is no such phase.
        InputError: the episodes file or files that it names are missing, or it has another number
            of groups than there are novel classes.
    """
    legend, tree = oem_legend(phase), look_below(root)
    path = tree.list_file(episodes or f"{phase}.json")
    names = read_episode_file(path)
    novel = legend.names[8:]
    if len(names.support) != len(novel):
        raise InputError(
            f"{path}: support_set has {len(names.support)} groups ({', '.join(names.support)}); "
            f"phase {phase!r} has {len(novel)} novel classes: {', '.join(novel)}."
        )
    support = tree.pairs((n for group in names.support.values() for n in group), str(path))
    found = iter(support)
    return Episode(
        name=f"oem-fewshot-{phase}",
        legend=legend,
        base=legend.names[1:8],
        novel=novel,
        support={
            name: tuple(next(found) for _ in group)
            for name, group in zip(novel, names.support.values(), strict=True)
        },
        queries=tree.pairs(names.queries, str(path), labelled=False),
    )


def oem_query_names(root: str | Path, phase: str = "val") -> tuple[str, ...]:
    """Return the file names of a phase's queries, whether or not the images are there.

    Args:
        root: folder with the episodes file in it or below.
        phase: `val` or `test`.

    Raises:
        ConfigError: there is no such phase.
        InputError: the episodes file is missing or of another form.
    """
    _check_phase(phase)
    return read_episode_file(look_below(root).list_file(f"{phase}.json")).queries


def training_images(tree: Tree, train: str) -> tuple[FewShotImage, ...]:
    """Find the images that a list of base-training images names, one file name per line.

    Args:
        tree: the data set.
        train: name or path of the list.

    Raises:
        InputError: the list is missing or empty, or files that it names are.
    """
    path = tree.list_file(train)
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"{path}: the list is empty, expected one image file name per line.")
    return tree.pairs(names, str(path))


def _check_phase(phase: str) -> None:
    if phase not in PHASES:
        raise ConfigError(
            f"phase: found {phase!r}, expected {' or '.join(PHASES)}.{nearest(phase, PHASES)}"
        )
