# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""docs/operating.md and docs/hardware.md: their commands, in order, as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.firmware_py.ike.hosts import need
from tests.firmware_py.ike.strongswan import STRONGSWAN
from tests.terminal import on_terminal

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
DOCS = Path(__file__).parents[3] / "docs"
PING = (Path(shutil.which("ping") or "/usr/bin/ping"), "iputils-ping")


def run(guide: str, folder: Path, *namespaces: str) -> str:
    """What the commands of a guide print, on a terminal as a person has it: nothing says that it is wider
    than 80 columns.
    """
    script = "\n".join(re.findall(r"```sh\n(.*?)```", (DOCS / guide).read_text(), re.S))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    try:
        code, text = on_terminal(
            ["bash", "-euxc", script], folder=folder, environment={**os.environ, "PATH": path}, seconds=900
        )
    finally:
        _end(namespaces)
    assert code == 0, text
    return text


def _end(namespaces: tuple[str, ...]) -> None:
    for name in namespaces:
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        for process in listed.stdout.split():
            subprocess.run(["kill", "-9", process], check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_every_command_of_the_guide_works(tmp_path):
    need(*STRONGSWAN[:3], PING)  # what the guide says to install, and no more
    printed = run("operating.md", tmp_path, "left", "right")
    assert printed.count("3 received") == 2 and 'spigate_ike_sas{state="established"} 1' in printed
    assert "child-rekeyed" in (tmp_path / "tunnel/spigate.log").read_text()


def test_every_command_of_the_guide_to_hardware_works(tmp_path):
    need(PING)
    printed = run("hardware.md", tmp_path, "peer", "server", "gate")
    assert "3 received" in printed and "0 received" in printed and "\nnothing passes any more\n" in printed
    assert re.search(r'spigate_packets_total\{kind="encrypted"\} [1-9]', printed) and re.search(
        r'spigate_dfe_packets_total\{dfe="0"\} [1-9]', printed
    )
