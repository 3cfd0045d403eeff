# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""examples/capture/capture.sh on a Linux gateway (a user-mode Linux), and what it made through ``spigate
replay``.
"""

import json
import shutil
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from spigate.firmware_py.captures import capture, sources
from spigate.firmware_py.captures.sources import TOGETHER
from spigate.firmware_py.errors import ToolMissing
from spigate.hdl.contract.enums import Port
from spigate.sim.replay import replay
from tests.firmware_py.daemon.bed import ping
from tests.firmware_py.daemon.test_manual_kernel import CASES, gateway, linux, ours

pytestmark = pytest.mark.xdist_group("host")
SCRIPT = Path(__file__).parents[3] / "examples" / "capture" / "capture.sh"
ESP = CASES["ESP tunnel, AES-CBC"]
PINGS = (56, 100, 500, 1300)


@pytest.fixture(scope="module")
def folder(uml, tmp_path_factory):
    """What it captured while four pings came through a tunnel."""
    if shutil.which("tcpdump") is None:
        raise ToolMissing("no captures here: this machine lacks tcpdump")
    place = tmp_path_factory.mktemp("capture")
    made, log = place / "made", place / "log"
    uml.run("ip", "link", "add", "inside", "type", "dummy")
    try:
        uml.run("ip", "link", "set", "inside", "up")
        with linux(uml, *ESP), closing(gateway(uml, place / "ce", ours(*ESP))) as peer:
            process = uml.start(log, "sh", SCRIPT, "vec0", "inside", made)
            _until(lambda: "until Ctrl-C" in log.read_text(), log)
            peer.start()
            peer.happens("sa-up", 2)
            ping(uml.ours, "10.2.0.1", PINGS, source="10.1.0.1")
            uml.run("kill", "-TERM", process)
            _until(lambda: "spigate replay" in log.read_text(), log)
        yield made, log
    finally:
        uml.run("ip", "link", "del", "inside")


def _until(condition, log):
    end = time.monotonic() + 20
    while not (log.exists() and condition()):
        assert time.monotonic() < end, log.read_text() if log.exists() else "nothing"
        time.sleep(0.1)


@pytest.mark.slow
def test_what_it_captured_is_replayed(folder, tmp_path):
    made, log = folder
    assert made.stat().st_mode & 0o777 == 0o700
    words = log.read_text().splitlines()[-1].split()
    assert words[:3] == ["spigate", "replay", str(made)]
    named = dict(zip(words[3::2], words[4::2], strict=True))
    given = sources.find(made, network=named["--network-interface"], server=named["--server-interface"])
    assert named == {"--network-interface": "vec0", "--server-interface": "inside", "--out": "OUT"}
    report = replay(given, tmp_path, dataplane="soft")
    assert report["consumed"]["local"] >= len(PINGS), report  # and what this test says to that machine
    assert report["drops"]["policy"] >= len(PINGS), "the copies in the clear that Linux shows"


def test_and_without_what_ip_said_of_interfaces(folder, tmp_path):
    """Then the pings' destination, of which no frame tells, is a host behind the gateway."""
    given = replace(sources.find(folder[0]), **dict.fromkeys((*TOGETHER, "routes6", "links")))
    read = capture.read(given)
    assert read.topology.interfaces[Port.NETWORK].mac == _mac(folder[0])
    report = replay(given, tmp_path, dataplane="soft")
    assert report["ports"]["server"]["out"] == len(PINGS), report


def _mac(folder):
    links = {each["ifname"]: each for each in json.loads((folder / "link.json").read_text())}
    return bytes.fromhex(links["vec0"]["address"].replace(":", ""))


@pytest.mark.parametrize(
    "words, why",
    [
        (("lo",), "capture.sh NETWORK_INTERFACE SERVER_INTERFACE FOLDER"),
        (("lo", "none", "x"), "there is no interface none"),
        (("lo", "lo", "."), r"cannot make the folder ., or it is there already"),
    ],
)
def test_what_is_wrong_is_said(words, why, tmp_path):
    ended = subprocess.run(["sh", SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and why in ended.stderr and ended.stdout == ""
