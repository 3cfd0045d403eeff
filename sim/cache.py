# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is made once and kept: Verilog, models, netlists. It has a bound: what was not used for longest goes.

Each thing kept is a folder ``KIND/NAME`` below :func:`folder`, beside a file ``KIND/NAME.lock``. A name ends
in a :func:`digest`; other files and folders are nobody's business here. Two locks (flock(2), so that they end
with their process) say who is at work:

- the file's, exclusive, while the folder is made, looked up or removed;
- the folder's own, shared, by each process that was given it, until that process ends. What is in use is
  never removed.

The lock file's modification time is the time of the last use.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "SPIGATE_CACHE"
"""Environment variable that names the folder for all that is kept."""
LIMIT = "SPIGATE_CACHE_MB"
"""Environment variable that bounds it, in megabytes of 10^6 bytes."""
DEFAULT_MB = 4000
"""The bound without that variable. All tests make about 400 MB."""
_ENTRY = re.compile(r".*[0-9a-f]{20}\.lock")
PROJECT = Path(__file__).resolve().parents[1]

_in_use: dict[Path, int] = {}
"""Descriptors of folders that this process was given; each holds a shared lock."""


def folder() -> Path:
    """Where things are kept: ``$SPIGATE_CACHE``, else ``build/`` of the project's tree, else (installed) the
    user's cache.
    """
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    if (PROJECT / "pyproject.toml").is_file():
        return PROJECT / "build"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spigate"


def limit() -> int:
    """The bound in bytes.

    Raises
    ------
    ValueError
        ``$SPIGATE_CACHE_MB`` is no number of megabytes.
    """
    text = os.environ.get(LIMIT, str(DEFAULT_MB))
    if not text.isdecimal():
        raise ValueError(f"{LIMIT} must be a number of megabytes, not {text!r}")
    return int(text) * 10**6


def digest(*parts: object) -> str:
    """A short hash of ``parts``, for names of cached things."""
    state = hashlib.sha256()
    for part in parts:
        state.update(f"{part!r}\n".encode())
    return state.hexdigest()[:20]


@contextmanager
def cached(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Keeps what is made once, for several processes at a time.

    Parameters
    ----------
    name
        ``KIND/NAME``, where NAME has a :func:`digest` of all that goes into the thing.

    Yields
    ------
    folder, scratch
        The lasting folder, and a scratch folder to fill where the lasting one is not there yet (else None).
        The scratch folder becomes the lasting one when the block ends without an error. The lasting one
        stays until this process ends.
    """
    kept = folder() / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    with _locked(_lock_of(kept)):
        if kept.is_dir():
            _use(kept)
            yield kept, None
            return
        scratch = Path(tempfile.mkdtemp(dir=kept.parent, prefix=_scratch_prefix(kept)))
        try:
            yield kept, scratch
            scratch.rename(kept)
            _use(kept)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    shrink()


def shrink() -> None:
    """Removes what was not used for longest and is not in use, until the rest is within :func:`limit`."""
    root, most = folder(), limit()
    with _locked(root / "cache.lock"):
        entries = []
        for lock in root.glob("*/*.lock"):
            if not _ENTRY.fullmatch(lock.name):
                continue
            try:
                entries.append((lock.stat().st_mtime_ns, lock, sum(map(_size, _parts(lock)))))
            except FileNotFoundError:
                continue
        total = sum(size for *_, size in entries)
        for _, lock, size in sorted(entries):
            if total <= most:
                return
            if _remove(lock):
                total -= size


def _lock_of(kept: Path) -> Path:
    return kept.with_name(kept.name + ".lock")


def _scratch_prefix(kept: Path) -> str:
    return f".{kept.name}.making-"


def _parts(lock: Path) -> list[Path]:
    """The folder that goes with a lock file, and what is left of attempts to make it."""
    kept = lock.with_suffix("")
    return [*([kept] if kept.is_dir() else []), *kept.parent.glob(_scratch_prefix(kept) + "*")]


def _size(path: Path) -> int:
    """Bytes on the disk below ``path``; files that vanish meanwhile count nothing."""
    total = 0
    for where, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock file ``path``, which is made where it is missing; yields whether it is held, which is
    certain where ``wait`` is True.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            yield False
            return
        # Whoever held it before may have removed it: then it is nobody's lock any more.
        try:
            if os.path.samestat(os.fstat(file), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        os.close(file)
    try:
        yield True
    finally:
        os.close(file)


def _use(kept: Path) -> None:
    """Notes a use, and keeps the folder until this process ends. The lock file is held."""
    os.utime(_lock_of(kept))
    held = _in_use.get(kept)
    if held is not None and os.path.samestat(os.fstat(held), os.stat(kept)):
        return
    if held is not None:  # Removed by hand and made again.
        os.close(held)
    _in_use[kept] = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(_in_use[kept], fcntl.LOCK_SH)


def _remove(lock: Path) -> bool:
    """Removes what goes with a lock file, and that; False where it is being made, or in use."""
    with _locked(lock, wait=False) as held:
        if not held:
            return False
        kept = lock.with_suffix("")
        if kept.is_dir():
            user = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(user, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                os.close(user)
        for path in _parts(lock):
            shutil.rmtree(path, ignore_errors=True)
        lock.unlink(missing_ok=True)
        return True
