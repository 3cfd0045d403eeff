# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A small part of the benchmark, and that it tells what is wrong."""

import json
from argparse import Namespace

import pytest

from spigate.firmware_py.errors import Unsound
from spigate.hdl.contract.enums import Direction
from spigate.sim import bench, bench_soft
from spigate.sim.bench_traffic import Tunnels, misplaced
from spigate.sim.design import Configuration

pytestmark = pytest.mark.slow

SMALL = Configuration(beat_bytes=8, dfes=1, lanes=1)
PACKETS = [bytes([number]) for number in range(12)]


@pytest.mark.xdist_group("replay-small")
def test_a_small_part():
    jobs = {
        f"{suite} inbound": bench.stream(suite, 64, 12, repeat=4) for suite in ("gcm128", "cbc128-sha256")
    }
    jobs["outbound"] = bench.stream("cbc128-sha1", 64, 12, direction="outbound")
    jobs |= {
        "six": bench.stream("null-sha256", 64, 12, sas=6),
        "registers": {"kind": "registers", "suite": "gcm128", "direction": "inbound", "sas": 1},
        "latency": {"kind": "latency", "suite": "gcm128", "size": 64, "direction": "outbound", "sas": 1},
    }
    jobs |= {what: {"kind": "classify", "what": what} for what in bench.CLASSIFIED}
    found = bench.measure(SMALL, jobs)
    for name in ("gcm128 inbound", "cbc128-sha256 inbound"):
        result = found[name]
        assert (result["misplaced"], result["repeats"], result["replays"], result["other drops"]) == (
            0,
            3,
            3,
            0,
        )
        assert 40 < result["clocks"] < 400
    assert (
        found["outbound"]["misplaced"] == found["outbound"]["other drops"] == found["six"]["misplaced"] == 0
    )
    assert found["registers"] == [1, 54] and 100 < found["latency"] < 500
    assert all(9 <= found[what] <= 20 for what in bench.CLASSIFIED)


def test_the_cam_answers_every_clock():
    assert [figure.passed for figure in bench.cam_lookups()] == [True, True]


def test_wrong_order_is_found_out():
    assert misplaced(PACKETS, PACKETS, 3) == 0
    # SAs 0, 1, 2 in turn: the others may go before, one's own may not.
    assert misplaced(PACKETS, sorted(PACKETS, key=lambda packet: packet[0] % 3), 3) == 0
    assert misplaced(PACKETS, [*PACKETS[:2], PACKETS[5], *PACKETS[3:5], PACKETS[2], *PACKETS[6:]], 3) == 2
    assert misplaced(PACKETS, PACKETS[::-1], 1) == 12


@pytest.mark.parametrize(
    "arrived", [PACKETS[1:], [*PACKETS, PACKETS[3]], [*PACKETS[:-1], b"x"]], ids=["lost", "twice", "changed"]
)
def test_what_is_lost_or_changed_is_found_out(arrived):
    with pytest.raises(Unsound):
        misplaced(PACKETS, arrived, 3)


def good() -> dict:
    """Results of all jobs that meet every requirement."""
    found = {}
    for configuration, jobs in bench.plan().items():
        for name, job in jobs.items():
            bits = 8 * job.get("size", 0)
            clocks = (
                15 + job["size"] / 16
                if configuration.stand_in
                else bits / 12 / configuration.dfes / configuration.lanes
            )
            found[name] = {
                "stream": {"clocks": clocks, "misplaced": 0, "replays": 9, "repeats": 9, "other drops": 0},
                "latency": 300,
                "registers": [1, 54],
                "classify": 9,
            }[job["kind"]]
    return found


def misses(found: dict) -> list[str]:
    return [figure.name for figure in bench.figures(found) if figure.passed is False]


def test_requirements():
    assert misses(good()) == []
    for name, change, words in (
        ("gcm128 1400 outbound", {"clocks": 1150}, "one lane, gcm128, 1400 bytes, outbound"),
        ("4 lanes", {"misplaced": 1}, "one SA, packets out of their order"),
        ("2 DFEs", {"misplaced": 2}, "64 SAs, packets out of their order"),
        ("4 lanes", {"replays": 8}, "one SA, of 27 replays not dropped"),
        ("2 lanes", {"other drops": 1}, "one SA, other packets dropped"),
        ("4 DFEs", {"clocks": 300}, "64 SAs, cbc128-sha256, 1400 bytes, 4 DFEs: as much as one"),
        ("beyond 64 outbound", {"clocks": 25}, "a packet of 64 bytes beyond its crypto, outbound"),
        ("beyond 1400 inbound", {"clocks": 112}, "a packet of 1400 bytes beyond its crypto, inbound"),
    ):
        found = good()
        found[name] = found[name] | change
        assert misses(found) == [words]
    assert misses(good() | {"unknown": 17}) == ["CFE, frames of 64 bytes, unknown SPI"]
    assert misses(good() | {"registers": [2, 65]}) == [
        "writes for one SA, bursts",
        "writes for one SA, words",
    ]


def test_a_miss_is_reported(monkeypatch, tmp_path, capsys):
    figures = [
        bench.at_least("first", 3.14159, "bits a clock", 3),
        bench.at_most("second", 25, "clocks", 24),
        bench.Figure("third", 7, "clocks"),
    ]
    monkeypatch.setattr(bench, "bench", lambda console: figures)
    given = Namespace(
        soft=False, synthesised=False, json=tmp_path / "made" / "bench.json", markdown=tmp_path / "bench.md"
    )
    assert bench.run(given) == 1
    assert "FAIL" in capsys.readouterr().out
    assert json.loads(given.json.read_text())[1] == {
        "name": "second",
        "value": 25,
        "unit": "clocks",
        "required": "24 or less",
        "passed": False,
        "core": None,
        "size": None,
    }
    assert given.markdown.read_text().splitlines()[2:] == [
        "| first | 3.14 | bits a clock | 3 or more | pass |",
        "| second | 25 | clocks | 24 or less | FAIL |",
        "| third | 7 | clocks |  |  |",
    ]
    del figures[1]
    assert bench.run(Namespace(soft=False, synthesised=False, json=None, markdown=None)) == 0


def test_what_is_sent():
    inbound, outbound = (
        Tunnels("gcm128", direction, count=2) for direction in (Direction.INBOUND, Direction.OUTBOUND)
    )
    packet = inbound.clear(64, 1)
    assert len(packet) == 64 and packet != inbound.clear(64, 3)
    assert len(inbound.frame(1, packet)) == 14 + 20 + 8 + 8 + 68 + 16
    assert outbound.frame(1, packet)[14:] == packet


def test_the_software_path(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_soft, "SECONDS", 0.0001)
    assert (
        bench.run(
            Namespace(
                soft=True, synthesised=False, json=tmp_path / "soft.json", markdown=tmp_path / "soft.md"
            )
        )
        == 0
    )
    rates = json.loads((tmp_path / "soft.json").read_text())
    assert len(rates) == 15 * 2 * 3 and all(rate["packets"] > 100 for rate in rates)
    table = (tmp_path / "soft.md").read_text().splitlines()
    assert table[2].startswith(f"| {bench_soft.REFERENCE} | outbound | 1.00 |") and len(table) == 2 + 15 * 2
    assert "AH, hmac-sha256-128" in capsys.readouterr().out


def test_every_job_fits_the_tables():
    """An outbound SA takes a rule, and each takes a route."""
    for configuration, jobs in bench.plan().items():
        gateway = configuration.gateway()
        for job in jobs.values():
            if job["kind"] == "stream":
                assert job["sas"] <= (
                    gateway.rules if job["direction"] == "outbound" else gateway.cam_entries
                )
                assert job["packets"] % (8 if configuration.lanes > 1 else 4) == 0
