# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What is to be written is looked at before a command works for minutes."""

import pytest

from spigate.firmware_py import outputs
from spigate.firmware_py.errors import InputError


def test_folders_are_made_and_files_are_not(tmp_path):
    outputs.file(tmp_path / "a" / "b" / "new")
    outputs.file(None)
    assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "old").write_text("kept")
    outputs.file(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path, said in ((tmp_path, "must be a file"), (tmp_path / "file" / "new", "must be a folder")):
        with pytest.raises(InputError, match=said):
            outputs.file(path)
    for path in (tmp_path / "file", tmp_path / "file" / "new"):
        with pytest.raises(InputError, match="must be a folder"):
            outputs.folder(path)
