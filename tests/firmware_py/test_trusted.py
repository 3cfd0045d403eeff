# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Secrets, certificates and key logs: whose they are, who else may touch them or what is on the way to
them.
"""

import os
import signal
from pathlib import Path

import pytest

from spigate.firmware_py.daemon import keylog
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.trusted import MAX_BYTES, Untrusted, read

NOBODY = 65534


@pytest.fixture(autouse=True)
def not_for_ever():
    """A FIFO that is opened for reading waits for ever."""
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "etc" / "psk"
    path.parent.mkdir(mode=0o755)
    path.write_text("x")
    path.chmod(0o600)
    return path


def refused(path: Path, why: str, *, secret: bool = True) -> None:
    with pytest.raises(Untrusted, match=why):
        read(path, secret=secret)


def give_away(path: Path, monkeypatch) -> None:
    """To another user."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    else:
        own = os.lstat(path).st_uid
        real = os.fstat

        class Status:
            def __init__(self, status):
                self.st_mode, self.st_uid, self.st_nlink, self.st_ino = (
                    status.st_mode,
                    status.st_uid,
                    status.st_nlink,
                    status.st_ino,
                )

        def fstat(descriptor):
            status = Status(real(descriptor))
            if status.st_ino == os.lstat(path).st_ino:
                status.st_uid = own + 1
            return status

        monkeypatch.setattr(os, "fstat", fstat)


def test_modes_of_files(secret):
    assert read(secret, secret=True) == b"x"
    for mode in (0o644, 0o640, 0o604, 0o620, 0o602):
        secret.chmod(mode)
        refused(secret, r"expected a file that only its owner may read \(chmod 600\)")
        if mode & 0o022:
            refused(secret, r"only its owner may write \(chmod go-w\)", secret=False)
        else:
            assert read(secret, secret=False) == b"x"


def test_folders_on_the_way(secret):
    for mode, why in (
        (0o777, "a folder that only its owner may write"),
        (0o775, "etc, mode 0775"),
        (0o1777, None),
        (0o755, None),
    ):
        secret.parent.chmod(mode)
        if why is None:
            assert read(secret, secret=True) == b"x"
        else:
            refused(secret, why)
            refused(secret, why, secret=False)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_owners(secret, monkeypatch, which):
    give_away(secret if which == "file" else secret.parent, monkeypatch)
    refused(secret, "expected an owner that is root or this user")


def test_links_are_followed_where_they_can_be_trusted(secret, tmp_path, monkeypatch):
    link, folder = tmp_path / "link", tmp_path / "folder"
    link.symlink_to("etc/psk")
    folder.symlink_to(secret.parent)
    for path in (link, folder / "psk", tmp_path / "etc" / ".." / "link", folder / ".." / "etc" / "psk"):
        assert read(path, secret=True) == b"x"
    monkeypatch.chdir(secret.parent)
    assert read(Path("psk"), secret=True) == b"x"
    secret.parent.chmod(0o777)
    refused(link, "etc, mode 0777")
    (tmp_path / "circle").symlink_to("circle")
    refused(tmp_path / "circle", "without a circle")
    if os.geteuid() == 0:
        secret.parent.chmod(0o755)
        give_away(link, monkeypatch)
        refused(link, "owner")


def test_what_is_no_regular_file_is_not_waited_for(secret, tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", Path("/dev/zero"), secret.parent):
        refused(path, "expected a regular file")
    secret.write_bytes(bytes(MAX_BYTES + 1))
    refused(secret, "at most")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent", secret=True)


def test_a_key_log_goes_where_nobody_else_can_read_it(tmp_path, monkeypatch):
    """A folder that stood there was taken as it was, and so was another user's file in it."""

    def refuse(folder: Path, why: str) -> None:
        with pytest.raises(InputError, match=why):
            keylog.Folder(folder)

    folder = tmp_path / "keys"
    keylog.Folder(folder).close()
    keylog.Folder(folder).close()
    for mode in (0o755, 0o750, 0o777):
        folder.chmod(mode)
        refuse(folder, r"a folder that only its owner may enter \(chmod 700\)")
    folder.chmod(0o700)
    log = folder / keylog.ESP_SA
    log.write_text("before")
    os.link(log, tmp_path / "other")
    refuse(folder, "a file with one name")
    assert log.read_text() == "before"
    (tmp_path / "other").unlink()
    log.unlink()
    log.symlink_to(tmp_path / "elsewhere")
    refuse(folder, "a regular file")
    log.unlink()
    os.mkfifo(log, 0o600)
    refuse(folder, "a regular file")
    log.unlink()
    log.write_text("before")
    give_away(log, monkeypatch)
    refuse(folder, "owner")
    assert log.read_text() == "before"
    tmp_path.chmod(0o777)
    refuse(folder, "only its owner may write")
    tmp_path.chmod(0o700)
