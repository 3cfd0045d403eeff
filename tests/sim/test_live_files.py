# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What ``spigate simulate`` makes in the file system for its control element."""

import os
import stat

import pytest

from spigate.firmware_py.errors import InputError
from spigate.sim import live

OPENPTY = os.openpty


def open_to_a_group():
    """As on a system whose terminals a group may write to, which is what Debian has."""
    master, slave = OPENPTY()
    os.fchmod(slave, 0o620)
    return master, slave


def test_the_serial_line_is_its_owners_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "openpty", open_to_a_group)
    path = tmp_path / "board"
    with live._terminal(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.is_symlink()


def test_what_is_in_the_way_of_the_serial_line_stays(tmp_path):
    path = tmp_path / "board"
    path.write_text("mine")
    with pytest.raises(InputError, match="File exists"), live._terminal(path):
        pass
    assert path.read_text() == "mine"
