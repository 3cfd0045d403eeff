# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The documented ways to install: the wheel with pip in a virtual environment, and with pipx; then
``spigate`` in an empty folder. What it depends on comes from PyPI.

The third way, ``make setup``, is what .ci/run begins with.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spigate import __version__
from tests.install.environments import TOP
from tests.install.test_wheel import CAPTURE

pytestmark = [pytest.mark.xdist_group("install"), pytest.mark.slow]
PYTHONS = ("3.11", "3.12", "3.13")
SOFT = f"spigate replay {CAPTURE} --dataplane soft --out out"


def interpreter(version: str) -> str | None:
    """A Python of that version: this one, one on PATH, or one of pyenv's."""
    if version == "{}.{}".format(*sys.version_info):
        return os.path.realpath(sys.executable)
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = str(installed[-1]) if installed else shutil.which(f"python{version}")
    works = found and subprocess.run([found, "-c", "import ensurepip"], capture_output=True).returncode == 0
    return found if works else None


def shell(script: str, folder: Path, **environment: str) -> str:
    """What a person sees who types that in an empty folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    folder.mkdir(exist_ok=True)
    shown = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**clean, "PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
        check=False,
        timeout=1000,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


@pytest.mark.parametrize("version", PYTHONS)
def test_venv(wheel, tmp_path, version):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} is installed")
    shell(f"{python} -m venv .venv && .venv/bin/pip install --quiet {wheel}", tmp_path / "home")
    # Both ways of the guides to have it on PATH.
    assert shell(". .venv/bin/activate; spigate --version", tmp_path / "home") == f"spigate {__version__}\n"
    shown = shell(f"PATH=$PWD/.venv/bin:$PATH; {SOFT}; spigate ce --help", tmp_path / "home")
    assert "dropped: none" in shown and "usage: spigate ce" in shown
    shown = shell(f".venv/bin/python {TOP}/examples/script/decrypt.py", tmp_path / "home")
    assert "decrypted: 1\n" in shown


def test_pipx(wheel, tmp_path):
    home = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    python = os.path.realpath(sys.executable)
    shell(f"{sys.executable} -m pipx install --quiet --python {python} {wheel}", tmp_path / "home", **home)
    shown = shell(f"PATH={tmp_path}/bin:$PATH; spigate --version; {SOFT}", tmp_path / "home")
    assert shown.startswith(f"spigate {__version__}\n") and "dropped: none" in shown


def test_what_is_said_to_be_installed_can_be(wheel, tmp_path):
    """The words that a missing extra is told with: pip takes them for the spigate that is installed."""
    shell(f"{sys.executable} -m venv .venv && .venv/bin/pip install --quiet {wheel}", tmp_path)
    shown = shell(
        "! .venv/bin/spigate export 2> said; "
        '$(sed -n "s/.*: pip/.venv\\/bin\\/pip/p" said | tr -d "\'") --dry-run',
        tmp_path,
    )
    assert re.search(r"Would install .*amaranth-0\.5", shown), shown
    assert "spigate" not in shown.splitlines()[-1]
