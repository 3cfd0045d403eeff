# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Environments in which a built wheel is installed, as those have it who have no checkout.

Nothing is fetched but what builds the wheel: what spigate depends on is what is installed here.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

TOP = Path(__file__).parents[2]
SOURCES = ("spigate", "hdl", "sim", "firmware_py", "boards", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
CACHE = TOP / "build"
"""Where models are kept: as many as there are need not be built once more."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment. ``bin``: its folder of commands."""

    bin: Path

    @property
    def packages(self) -> Path:
        [found] = self.bin.parent.glob("lib/python*/site-packages")
        return found

    def run(self, *words: str | Path, folder: Path) -> subprocess.CompletedProcess:
        """A command in ``folder``, with the environment's own before all others, and nothing of the checkout
        in its way.
        """
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        path = f"{self.bin}{os.pathsep}{clean['PATH']}"
        return subprocess.run(
            ["env", *words],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**clean, "PATH": path, "SPIGATE_CACHE": str(CACHE)},
            check=False,
        )


def build_wheel(folder: Path) -> Path:
    """The wheel, built in ``folder`` from what a source distribution has."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (TOP / name).is_dir():
            shutil.copytree(
                TOP / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(TOP / name, source)
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", folder, source], check=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Environment:
    """An environment in ``folder`` with the wheel alone."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    made = Environment(folder / "bin")
    subprocess.run(
        [*PIP, "--python", made.bin / "python", "install", "--no-deps", "--no-index", wheel], check=True
    )
    return made


def add_runtime(made: Environment) -> None:
    """Copies of what spigate needs without an extra."""
    runtime = closure(
        *(
            Requirement(text).name
            for text in distribution("spigate").requires
            if Requirement(text).marker is None
        )
    )
    for each in runtime.values():
        for file in each.files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = made.packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(each.locate_file(file), target)


def add_everything(made: Environment) -> None:
    """All packages that are installed here, behind its own: of spigate it still has the wheel's."""
    import cocotb

    (made.packages / "others.pth").write_text(f"{Path(cocotb.__file__).parents[1]}\n")


def closure(*names: str) -> dict[str, object]:
    """The distributions that these need to run, without extras, as they are installed here."""
    found, left = {}, list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        found[name] = distribution(name)
        for text in found[name].requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                left.append(needed.name)
    return found
