# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""docs/operating.md and docs/hardware.md: their commands, in order, as they stand there."""

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tests.firmware_py.ike.hosts import need
from tests.firmware_py.ike.strongswan import STRONGSWAN

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
DOCS = Path(__file__).parents[3] / "docs"
PING = (Path(shutil.which("ping") or "/usr/bin/ping"), "iputils-ping")


def run(guide: str, folder: Path, *namespaces: str) -> str:
    """What the commands of a guide print, on a terminal as a person has it: nothing says that it is wider
    than 80 columns.
    """
    script = "\n".join(re.findall(r"```sh\n(.*?)```", (DOCS / guide).read_text(), re.S))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    printed = []
    try:
        shell = subprocess.Popen(
            ["bash", "-euxc", script],
            cwd=folder,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env={**environment, "PATH": path, "TERM": "xterm"},
        )
        reader = threading.Thread(target=_read, args=(ours, printed))
        reader.start()
        try:
            shell.wait(timeout=900)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # with what it leaves in the background where it fails
            os.close(terminal)
            _end(namespaces)
            reader.join(timeout=10)
        text = b"".join(printed).decode().replace("\r\n", "\n")
        assert shell.returncode == 0, text
        return text
    finally:
        os.close(ours)


def _read(terminal: int, printed: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while data := os.read(terminal, 1 << 16):
            printed.append(data)


def _end(namespaces: tuple[str, ...]) -> None:
    for name in namespaces:
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        for process in listed.stdout.split():
            subprocess.run(["kill", "-9", process], check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_every_command_of_the_guide_works(tmp_path):
    need(*STRONGSWAN, PING)
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
