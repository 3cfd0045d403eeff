# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

import re
import subprocess
import sys

import pytest

from spigate.boards import mac
from spigate.hdl.net.packet import BEAT_BYTES
from tests.hdl.board.loop import model

BENCH = "tests.hdl.board.bench_pins"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beat_bytes", "clocks", "delays"),
    [
        # A step of a clock's period is 250 ppm; IEEE 802.3 allows 100 at either end.
        (8, {"rx_ps": 7998, "tx_ps": 8002}, mac.Delays()),
        (16, {"rx_ps": 8002, "tx_ps": 7998, "core_ps": 24_000}, mac.Delays(tx_ps=1000, rx_ps=2000)),
    ],
)
def test_a_port_at_its_pins(beat_bytes, clocks, delays, tmp_path):
    assert set(BEAT_BYTES) == {8, 16}
    assert model(tmp_path, beat_bytes=beat_bytes, delays=delays).run(BENCH, parameters=clocks) == 6


def test_delays_are_whole_steps_of_the_pins():
    text = mac.mac(mac.Delays(tx_ps=1000, rx_ps=2000)).read_text()
    found = [int(each, 16) for each in re.findall(r"DEL_VALUE ?\(\d+'[hd]([0-9a-f]+)\)", text)]
    assert sorted(found) == [0] * 5 + [40] + [80] * 5


def test_delays_that_no_pin_has_are_refused():
    with pytest.raises(ValueError, match="rx_ps must be 0 to 3199, not 3200"):
        mac.Delays(rx_ps=3200)


def test_the_mac_is_the_same_each_time_it_is_made(tmp_path):
    """Migen's names depend on who calls it, and LiteX notes the time."""
    made = []
    for name in ("one", "other"):
        subprocess.run([sys.executable, "-m", "spigate.boards.mac", "0", "0", name], cwd=tmp_path, check=True)
        made.append((tmp_path / name).read_text())
    assert made[0] == made[1]
