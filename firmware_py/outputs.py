# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Whether what a command is to write can be written, asked before the minutes or hours that it works."""

from pathlib import Path

from spigate.firmware_py.errors import InputError


def folder(path: Path) -> Path:
    """Makes a folder and those above it. Raises InputError where that cannot be."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} must be a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} must be a folder, and cannot be made: {error.strerror}") from None
    return path


def file(path: Path | None) -> None:
    """Makes the folder of a file, and looks whether the file can be written; it stays as it is. Raises
    InputError.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} must be a file, and is a folder")
    folder(path.parent)
    there = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    if not there:
        path.unlink()
