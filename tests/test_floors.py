"""A module imports only from floors below its own, and nothing does what the rules forbid."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "covermap"

ORDER = (
    ("errors", "progress"),
    ("tables",),
    ("encoding", "ranges", "grid", "scores", "folds"),
    ("legend", "sensors", "tiling"),
    ("folds",),
    ("raster",),
    ("data", "synth"),
    ("models",),
    ("learning",),
    ("mapping", "recipes"),
    ("assessment",),
    ("api", "describe"),
    ("demo", "flair"),
    ("cli",),
    ("__main__",),
)
"""The floors, and within floors 1, 7 and 8 what stands on what."""
FLOOR = {name: floor for floor, names in enumerate(ORDER) for name in names}
MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(dotted: str) -> str:
    return dotted.split(".")[1] if "." in dotted else ""


def imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("covermap"):
            names = [node.module] if node.module != "covermap" else []
            names += [f"covermap.{a.name}" for a in node.names if node.module == "covermap"]
            found |= {part_of(name) for name in names}
        elif isinstance(node, ast.Import):
            found |= {part_of(a.name) for a in node.names if a.name.startswith("covermap.")}
    return found - {"", "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_only_from_floors_below(path: Path):
    relative = path.relative_to(SOURCE)
    part = relative.parts[0].removesuffix(".py")
    if part in ("__init__", "web"):
        return
    assert part in FLOOR, f"{relative} stands on no floor"
    for other in imports(ast.parse(path.read_text())):
        assert other == part or FLOOR[other] < FLOOR[part], f"{relative} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_and_functions_stay_small(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            size = (node.end_lineno or 0) - node.body[0].lineno + 1
            assert size <= 60, f"{path.name}: {node.name} has a body of {size} lines"
