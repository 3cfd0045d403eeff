# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate selftest`` as a command, at simulated gateways over their sockets: it passes where nothing is
wrong, and names what is where faults are put into the Verilog.
"""

import asyncio
import json
import os
import sys
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest

from spigate.sim import board
from spigate.sim.build import SUFFIX
from spigate.sim.cache import cached, digest
from spigate.sim.design import Configuration
from spigate.sim.scripted import Simulator
from tests.firmware_py.selftest import faults

pytestmark = [pytest.mark.xdist_group("selftest"), pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[3]
GATEWAYS = {
    "small": (Configuration(beat_bytes=8, dfes=1, lanes=1), faults.SMALL),
    "large": (Configuration(beat_bytes=8, dfes=2, lanes=2, engine="gcm"), faults.LARGE),
}
TABLES = ("cam", "rules", "routes", "sources", "sas")
RUNS = {
    "nothing": ("small", (), ()),
    "cells": ("small", ("cam way", "route cell", "rule mask", "source cell", "sa key"), TABLES),
    "columns": (
        "small",
        ("cam column", "route egress", "rule port", "source mask", "sa selectors", "sa window"),
        TABLES,
    ),
    "more cells": (
        "small",
        ("cam generation", "cam valid", "rule outcome", "sa auth", "sa lifetime", "sa number"),
        ("cam", "rules", "sas"),
    ),
    "s-box": ("small", ("s-box",), ("answers",)),
    "key s-box": ("small", ("key s-box",), ("answers",)),
    "replay": ("small", ("replay",), ("answers",)),
    "icv": ("small", ("icv",), ("answers",)),
    "drops": ("small", ("drop counter",), ("counters",)),
    "counters": ("small", ("cfe counter", "dfe counter", "event"), ("counters",)),
    "clock": ("small", ("clock",), ("counters",)),
    "nothing, large": ("large", (), ()),
    "large": ("large", ("dead dfe",), ("dfes", "answers")),
    "s-box, large": ("large", ("s-box",), ("answers",)),
}
"""Runs by name: the gateway, its faults, and the checks that are asked for (none: all)."""


@cache
def model(name):
    configuration, wrong = GATEWAYS[name]
    text = faults.patched(configuration.verilog().read_text(), wrong)
    with cached(f"faulty/{digest(text)}") as (folder, scratch):
        if scratch:
            (scratch / "spigate.v").write_text(text)
    return board.model(folder / "spigate.v", beat_bytes=configuration.beat_bytes)


@cache
def run(name):
    """Exit status of a run, what its JSON says, and the frames that left at a port."""
    gateway, wrong, checks = RUNS[name]
    words = [word for check in checks for word in ("--check", check)]

    async def tested():
        simulator = Simulator(model(gateway), None)
        with patch.dict(os.environ, {SUFFIX: faults.word(GATEWAYS[gateway][1], *wrong)}):
            await simulator.start()
            command = ["-m", "spigate.firmware_py.cli", "selftest", "--quick", "--json", *words]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                "--dataplane",
                f"unix:{simulator.socket}",
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
            out, _ = await process.communicate()
        left = []
        for port in simulator.ports.values():
            try:
                left.append(port.recv(1 << 16))
            except BlockingIOError:
                pass
        await simulator.end()
        return process.returncode, json.loads(out), left

    return asyncio.run(tested())


@pytest.mark.parametrize("name", ["nothing", "nothing, large"])
def test_a_sound_gateway_passes_and_nothing_leaves_it(name):
    code, found, left = run(name)
    assert [each for each in found["checks"] if each["result"] != "passed"] == []
    assert (code, found["passed"], found["end"], left) == (0, True, "", [])
    words = sum(each["written_words"] for each in found["checks"])
    assert 10_000 < words < found["written_words"] < 200_000


@pytest.mark.parametrize(
    ("name", "fault", "check", "where"),
    [
        ("cells", "cam way", "cam", "way 1 as a whole"),
        ("cells", "route cell", "routes", "route 9, the same, all bits the other way round"),
        (
            "cells",
            "rule mask",
            "rules",
            "rule 13, pattern 1, a packet that it does not mean by its source, bit 7",
        ),
        ("cells", "source cell", "sources", "DFE 0, source 10, pattern 1, not from it by bit 3"),
        ("cells", "sa key", "sas", "DFE 0, SA 200, use 1, outbound, aes_cbc with 256 bits, hmac_sha256_128"),
        ("columns", "cam column", "cam", "way 0 as a whole"),
        ("columns", "route egress", "routes", "route 60, egress server"),
        (
            "columns",
            "rule port",
            "rules",
            "rule 22, pattern 1, a packet that it does not mean by its source_port",
        ),
        ("columns", "source mask", "sources", "DFE 0, source 7, pattern 1, not from it by bit 21"),
        ("columns", "sa window", "sas", "DFE 0, SA 32, use 1"),
        ("columns", "sa selectors", "sas", "DFE 0, SA 64, use"),
        ("more cells", "cam generation", "cam", "way 2, row 80 (slot 1104), pass"),
        ("more cells", "cam valid", "cam", "way 2, row 304 (slot 1328), pass 5, not valid"),
        ("more cells", "rule outcome", "rules", "rule 30, pattern"),
        ("more cells", "sa auth", "sas", "DFE 0, SA 16, use"),
        ("more cells", "sa lifetime", "sas", "DFE 0, SA 88, use"),
        ("more cells", "sa number", "sas", "DFE 0, SA 64, use"),
        ("s-box", "s-box", "answers", "DFE 0, aes-"),
        ("key s-box", "key s-box", "answers", "DFE 0, aes-"),
        ("replay", "replay", "answers", "DFE 0, aes-gcm-256, 16-byte ICV, tunnel mode, inbound"),
        ("icv", "icv", "answers", "DFE 0, aes-gcm-256, 16-byte ICV, tunnel mode, inbound"),
        ("drops", "drop counter", "counters", "DFE 0, a packet to drop as icv"),
        ("counters", "cfe counter", "counters", "DFE 0, counter cfe.hits"),
        ("counters", "dfe counter", "counters", "DFE 0, counter dfe.encrypted"),
        ("counters", "event", "counters", "DFE 0, events"),
        ("clock", "clock", "clock", "register time"),
        ("large", "dead dfe", "dfes", "DFE 1, a frame of"),
        ("s-box, large", "s-box", "answers", "DFE 0, aes-gcm-128, 16-byte ICV, tunnel mode, outbound"),
    ],
)
def test_a_fault_is_named(name, fault, check, where):
    assert fault in RUNS[name][1]
    code, found, left = run(name)
    result = next(each for each in found["checks"] if each["check"] == check)
    assert (code, result["result"], found["end"], left) == (1, "failed", "", [])
    assert [each["where"] for each in result["failures"] if each["where"].startswith(where)]


def test_every_fault_is_asked_for():
    asked = {(gateway, fault) for gateway, wrong, _ in RUNS.values() for fault in wrong}
    assert asked == {(name, fault) for name, (_, wrong) in GATEWAYS.items() for fault in wrong}


def test_a_dead_dfe_is_left_out_of_what_follows():
    _, found, _ = run("large")
    answers = next(each for each in found["checks"] if each["check"] == "answers")
    assert answers["result"] == "passed"
    dfes = next(each for each in found["checks"] if each["check"] == "dfes")
    assert {each["where"].partition(",")[0] for each in dfes["failures"]} == {"DFE 1"}


def test_rows_of_faults_are_as_the_verilog_has_them():
    with pytest.raises(ValueError, match="^x: no module nothing$"):
        faults.patched("module a (b);\nendmodule", {"x": faults.cell("nothing", "memory", 0, 1)})
    with pytest.raises(ValueError, match="^x: nothing in a is like "):
        faults.patched("module a (b);\nendmodule", {"x": faults.cell("a", "memory", 0, 1)})
