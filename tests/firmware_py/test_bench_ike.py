# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A small part of the benchmark of handshakes, and that it says what is missing."""

import sys

import pytest

from tests.firmware_py import bench_ike

pytestmark = pytest.mark.xdist_group("strongswan")


def test_a_small_part(wire, tmp_path):
    found = bench_ike.compare(wire, tmp_path, bench_ike.SUITES[0], handshakes=20)
    for cost in (found.ours, found.strongswan):
        assert cost.answers > 0 and cost.cpu >= 0
    line = bench_ike.markdown([found]).splitlines()[2]
    assert line.startswith(f"| {bench_ike.SUITES[0]} | {found.strongswan.answers / found.ours.answers:.2f} |")


def test_without_strongswan_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(bench_ike, "missing", lambda *_: "strongswan-charon")
    monkeypatch.setattr(sys, "argv", ["bench_ike"])
    bench_ike.main()
    assert "not measured, this machine lacks strongswan-charon" in capsys.readouterr().out
