# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a missing tool does to a test, and what the quick tier does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spigate.firmware_py.errors import ToolMissing
from tests.conftest import QUICK_SECONDS, REQUIRED, hold_quick, pytest_make_parametrize_id, skipped

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "required, outcome", [("1", ToolMissing), ("0", pytest.skip.Exception), (None, pytest.skip.Exception)]
)
def test_absence_is_a_failure_where_peers_are_required(monkeypatch, required, outcome):
    monkeypatch.delenv(REQUIRED, raising=False)
    if required is not None:
        monkeypatch.setenv(REQUIRED, required)
    around = skipped()
    next(around)
    with pytest.raises(outcome, match="lacks strongswan-charon"):
        around.throw(ToolMissing("this machine lacks strongswan-charon"))


QUICK = """
import pytest

def test_unmarked():
    pass

@pytest.mark.slow
def test_marked():
    pass

def test_busy():
    sum(range(10**6))
"""


def test_the_quick_tier_leaves_out_what_is_slow_and_fails_what_should_be(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "from tests import conftest\nfrom tests.conftest import *\nconftest.QUICK_SECONDS = 0.001\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: .\n")
    (tmp_path / "test_tier.py").write_text(QUICK)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--quick", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "test_busy" in done.stdout and "mark it with pytest.mark.slow" in done.stdout
    assert "1 deselected" in done.stdout and "test_marked" not in done.stdout


def test_time_within_the_bound_of_the_quick_tier_passes():
    hold_quick(QUICK_SECONDS)


GROUPED = """
import pytest

@pytest.mark.parametrize("n", range(8))
@pytest.mark.xdist_group("one")
def test_of_a_group(n):
    pass
"""


def test_a_group_is_of_one_worker(tmp_path):
    """Tests that want the same things of the machine are in a group; a worker takes all of it."""
    (tmp_path / "test_group.py").write_text(GROUPED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    workers = [line.split("]")[0] for line in done.stdout.splitlines() if line.startswith("[gw")]
    assert len(workers) == 8 and len(set(workers)) == 1, done.stdout


def test_long_texts_and_new_keys_are_in_no_test_id():
    """Two workers made the key of a test each: they collected other ids, and no test ran."""
    assert pytest_make_parametrize_id(None, b"-----BEGIN PRIVATE KEY-----" + bytes(100), "data") == "data"
    assert pytest_make_parametrize_id(None, "x" * 100, "text") == "text"
    assert pytest_make_parametrize_id(None, b"short", "data") is None
    assert pytest_make_parametrize_id(None, 5, "count") is None
