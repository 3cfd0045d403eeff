# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A terminal of 24 lines of 80 columns, as a person has it."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

SIZE = (24, 80)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(
    command: Sequence[str | Path], *, folder: Path, environment: dict[str, str], seconds: float
) -> tuple[int, str]:
    """Runs a command; its exit code, and what a person reads: without colours. Nothing says that the terminal
    is wider than it is.

    What it leaves in the background ends with it, and it ends itself where it takes too long.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, SIZE)
    clean = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    printed: list[bytes] = []
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**clean, "TERM": "xterm"},
        )
        reader = threading.Thread(target=_read, args=(ours, printed))
        reader.start()
        try:
            process.wait(timeout=seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(theirs)
            reader.join(timeout=10)
        text = b"".join(printed).decode(errors="replace").replace("\r\n", "\n")
        return process.returncode, _ESCAPE.sub("", text)
    finally:
        os.close(ours)


def _read(terminal: int, printed: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while data := os.read(terminal, 1 << 16):
            printed.append(data)
