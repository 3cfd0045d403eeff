# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Files and folders that nobody but this process's user and root may have put there: secrets, certificates,
key logs.

Every folder on the way is looked at, from the root on, and so is every symbolic link: whoever may write in
one of them may put another file there. A folder with the sticky bit (``/tmp``) is no hindrance, because
what stands in it is looked at by itself. Nothing but a regular file is opened, so that no FIFO or device
makes this process wait.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spigate.firmware_py.errors import InputError

MAX_BYTES = 1 << 20
"""Of a file that is read."""
_MAX_LINKS = 40
_OTHERS_WRITE, _OTHERS_READ = 0o022, 0o077


class Untrusted(InputError):
    """A file is not as it must be.

    Members
    -------
    expected, found : str
    """

    def __init__(self, expected: str, found: str):
        super().__init__(f"{found}: expected {expected}")
        self.expected, self.found = expected, found


def read(path: Path, *, secret: bool) -> bytes:
    """What stands in a file: at most :data:`MAX_BYTES`.

    Parameters
    ----------
    secret : bool
        Nobody but its owner may read it. Otherwise it is enough that nobody else may write it.

    Raises
    ------
    Untrusted
        It is no regular file, not this user's or root's, open to others, too long, or behind a folder or
        link of which that is so.
    OSError
        It is not there, or cannot be read.
    """
    with _parent(path) as (folder, name):
        descriptor = _open(folder, name, path, os.O_RDONLY, _OTHERS_READ if secret else _OTHERS_WRITE)
        with open(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Untrusted(f"a file of at most {MAX_BYTES} bytes", str(path))
    return data


@contextmanager
def own_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder that only its owner may enter; made where it is not there. Raises Untrusted,
    OSError.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _parent(path) as (parent, name):
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        _check(os.fstat(descriptor), path, _OTHERS_READ)
        yield descriptor
    finally:
        os.close(descriptor)


def write(folder: int, name: str, path: Path) -> int:
    """A descriptor of the file ``name``, called ``path``, in the open ``folder``: emptied or made, and its
    owner's alone. Raises Untrusted, OSError."""
    descriptor = _open(folder, name, path, os.O_WRONLY | os.O_CREAT, 0)
    if os.fstat(descriptor).st_nlink != 1:
        os.close(descriptor)
        raise Untrusted("a file with one name", str(path))
    os.fchmod(descriptor, 0o600)
    os.ftruncate(descriptor, 0)
    return descriptor


def _open(folder: int, name: str, path: Path, flags: int, forbidden: int) -> int:
    try:
        _regular(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        status = os.fstat(descriptor)  # of what was opened, whatever stood there before
        _regular(status, path)
        _check(status, path, forbidden)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Untrusted("a regular file", str(path))


def _check(status: os.stat_result, path: object, forbidden: int) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise Untrusted("an owner that is root or this user", f"{path}, owned by user {status.st_uid}")
    if status.st_mode & forbidden:
        kind, looks = (
            ("folder", "enter (chmod 700)") if stat.S_ISDIR(status.st_mode) else ("file", "read (chmod 600)")
        )
        may = looks if forbidden == _OTHERS_READ else "write (chmod go-w)"
        raise Untrusted(
            f"a {kind} that only its owner may {may}", f"{path}, mode {stat.S_IMODE(status.st_mode):04o}"
        )


@contextmanager
def _parent(path: Path) -> Iterator[tuple[int, str]]:
    """The folder in which the last part of ``path`` stands, links followed, and its name there."""
    left = str(Path.cwd() / path).split("/")[::-1]
    folder, links, here = _root(), 0, Path("/")
    try:
        while True:
            name = left.pop()
            if name in ("", ".") and left:
                continue
            status = os.stat(name or ".", dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                _check(status, here / name, 0)
                target = os.readlink(name, dir_fd=folder)
                if links > _MAX_LINKS:
                    raise Untrusted("a path without a circle of links", str(path))
                if target.startswith("/"):
                    os.close(folder)
                    folder, here = _root(), Path("/")
                left += target.split("/")[::-1]
                continue
            if not left:
                break
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder, here = below, here / name
            _trust(folder, here)
        yield folder, name or "."
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(folder)


def _root() -> int:
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _trust(folder, Path("/"))
    return folder


def _trust(folder: int, path: Path) -> None:
    status = os.fstat(folder)
    _check(status, path, 0 if status.st_mode & stat.S_ISVTX else _OTHERS_WRITE)
