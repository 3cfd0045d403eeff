# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What an SA that was erased leaves behind: nothing. Two DFEs that differ only in keys and plain text must
end in the same state.
"""

import json
import random
from functools import cache

import pytest

from spigate.hdl.contract.enums import Table
from spigate.hdl.crypto.interface import engine_named
from spigate.hdl.dfe.dfe import Dfe
from spigate.hdl.net.descriptor import PacketInfo, Report, TableWrite
from spigate.hdl.net.packet import Beat
from spigate.sim.build import build, verilog
from tests.hdl.dfe.esp import SUITES, Peer
from tests.hdl.dfe.test_dfe import IP, UDP, Raw, bits, clear, entry, place, protect
from tests.hdl.streams import beats

pytestmark = pytest.mark.slow

SA_ENTRIES = 16
QUEUE_CLOCKS = 600
"""What its queue takes to be overwritten."""
IDLE_CLOCKS = 8000
"""docs/security.md."""


def packets_of(seed: int, suites):
    """SAs of both directions, entries, and packets in and out, whose keys and plain text are drawn from
    ``seed``.
    """
    rng, tables, packets = random.Random(seed), [], []
    peers = [
        Peer(SUITES[name], spi=0x1000 + at, tunnel=True, inbound=bool(at % 2), seed=rng)
        for at, name in enumerate(suites)
    ]
    for at, peer in enumerate(peers):
        tables += entry(at, peer)
    for number, size in enumerate((600, 1, 90, 40, 300, 64, 7, 128, 33)):
        for at, peer in enumerate(peers):
            packet = bytes(
                IP(src="10.1.0.7", dst="10.2.0.9", id=size)
                / UDP(sport=rng.getrandbits(16), dport=rng.getrandbits(16))
                / Raw(rng.randbytes(size))
            )
            packets.append(protect(peer, at, number + 1, packet) if at % 2 else clear(packet, at))
    return tables, packets


def erase(count: int):
    return [
        {
            "table": Table.SA,
            "dfe": 2,
            "index": index,
            "row": row,
            "data": 0,
            "first": row == 0,
            "last": row == 12,
        }
        for index in range(count)
        for row in range(13)
    ]


@cache
def model(beat_bytes: int, lanes: int, engine: str):
    dfe = Dfe(
        beat_bytes=beat_bytes, lanes=lanes, sa_entries=SA_ENTRIES, sources=4, engine=engine_named(engine)
    )
    return build([verilog(dfe, "Dfe")], top="Dfe", simulator="icarus")


def left(beat_bytes: int, lanes: int, engine: str, suites, seed: int, folder):
    """What a DFE holds before the SAs of that seed are erased and afterwards, and how long it took."""
    beat = Beat(beat_bytes)
    tables, packets = packets_of(seed, suites)
    story = {
        "tables": [bits(TableWrite(), row) for row in tables],
        "beats": [bits(beat, value) for frame, _ in packets for value in beats(frame, beat_bytes)],
        "infos": [bits(PacketInfo(), info) for _, info in packets],
        "erase": [bits(TableWrite(), row) for row in erase(len(suites))],
        "settle": QUEUE_CLOCKS,
        "last_bit": place(beat, "last"),
        "dropped_bit": place(Report(), "dropped"),
        "result": str(folder / "result.json"),
    }
    (folder / "story.json").write_text(json.dumps(story))
    model(beat_bytes, lanes, engine).run(
        "tests.hdl.dfe.bench_residue", parameters={"story": str(folder / "story.json")}
    )
    return json.loads((folder / "result.json").read_text())


def differences(one: dict, other: dict) -> dict:
    assert one.keys() == other.keys() and len(one) > 1000
    return {name: (value, other[name]) for name, value in one.items() if value != other[name]}


@pytest.mark.parametrize(
    ("suites", "beat_bytes", "lanes", "engine"),
    [
        ((2, 2), 8, 1, "compact"),
        ((8, 8, 0, 0, 3, 3), 16, 2, "compact"),
        ((2, 2, 0, 0), 8, 1, "gcm-small"),
        ((8, 8, 4, 4), 8, 1, "cbc-sha256"),
    ],
    ids=["GCM", "several", "gcm-small", "cbc-sha256"],
)
def test_nothing_stays_of_an_sa_that_was_erased(suites, beat_bytes, lanes, engine, tmp_path):
    results = [left(beat_bytes, lanes, engine, suites, seed, tmp_path) for seed in (1, 2)]
    one, other = results
    assert one["dropped"] == other["dropped"] == 0 and one["clocks"] == other["clocks"] <= IDLE_CLOCKS
    seen = differences(one["before"], other["before"])
    for part in ("sad.low", "rows.memory", "store_0.bank_0", "keys.memory", "firsts"):
        assert any(part in name and name.endswith("]") for name in seen), part
    assert differences(one["after"], other["after"]) == {}
