"""Write requirements.lock: exact versions with hashes for several Python versions, no host names.

Usage: python tools/lock.py python3.11 python3.12 python3.13

Each interpreter resolves `.[dev]` by itself, so that its environment markers hold; the results are
merged, and a line that not all of them share carries a `python_version` marker. Only wheels for
Linux on x86-64 are hashed: elsewhere the ranges of pyproject.toml serve.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = (
    "# Exact versions with hashes for Linux on x86-64; made by tools/lock.py, do not edit.\n"
    "# torch and torchvision must be a pair, so both come from the same index: torch 2.13.0 is\n"
    "# left out because CPU-only builds of that number lie in some stores, without a torchvision.\n"
)
PINS = ["torch!=2.13.0"]


def requirements() -> list[str]:
    """All requirements of the package and its extras, with references to itself removed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += [line for line in extra if not line.startswith("covermap")]
    return wanted


def resolve(python: str) -> dict[str, tuple[str, str]]:
    """Resolve with one interpreter: name -> (version, sha256)."""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        subprocess.run([python, "-m", "venv", venv], check=True)
        report = Path(folder) / "report.json"
        command = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--only-binary", ":all:", "--report", report]
        subprocess.run([*command, *requirements(), *PINS], check=True)
        found = {}
        for item in json.loads(report.read_text())["install"]:
            name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
            digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
            found[name] = (item["metadata"]["version"], digest)
    return found


def version_of(python: str) -> str:
    """The interpreter's major.minor version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def main(pythons: list[str]) -> None:
    """Resolve, merge and write."""
    resolved = {version_of(python): resolve(python) for python in pythons}
    lines = [HEADER]
    for name in sorted({name for found in resolved.values() for name in found}):
        variants: dict[str, list[str]] = {}
        hashes: dict[str, set[str]] = {}
        for python, found in resolved.items():
            if name in found:
                version, digest = found[name]
                variants.setdefault(version, []).append(python)
                hashes.setdefault(version, set()).add(digest)
        for version, at in variants.items():
            marker = (
                ""
                if len(at) == len(resolved)
                else " ; " + " or ".join(f'python_version == "{python}"' for python in at)
            )
            pins = " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(hashes[version]))
            lines.append(f"{name}=={version}{marker} \\\n{pins}\n")
    (ROOT / "requirements.lock").write_text("".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
