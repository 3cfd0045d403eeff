# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Linux's captures through the whole gateway, cold, against what Linux made of them."""

from pathlib import Path

import pytest

from spigate.sim.design import Configuration
from spigate.sim.replay import replay
from spigate.sim.verify import Differs, verify

pytestmark = pytest.mark.slow

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
SCENARIOS = [
    "esp-tunnel-gcm128",
    "esp-tunnel-cbc128-sha256",
    "esp-tunnel-cbc256-sha1",
    "esp-tunnel-null-sha256",
    "esp-transport-gcm256",
    "esp-transport-cbc128-sha256",
    "esp-tunnel-gcm128-replay",
    "esp-tunnel-cbc128-sha256-reorder",
    "esp-tunnel-gcm128-corrupt",
]
SMALL, LARGE = Configuration(beat_bytes=8, dfes=1, lanes=1), Configuration(beat_bytes=16, dfes=3, lanes=2)


@pytest.mark.xdist_group("replay-small")
@pytest.mark.parametrize("name", SCENARIOS)
def test_one_dfe(name, tmp_path):
    report = replay(CAPTURES / name, tmp_path, configuration=SMALL)
    assert report["drops"]["queue_full"] == 0
    assert sum(verify(CAPTURES / name, tmp_path).values()) >= 15


@pytest.mark.xdist_group("replay-large")
@pytest.mark.parametrize("name", SCENARIOS)
def test_three_dfes_of_two_lanes(name, tmp_path):
    replay(CAPTURES / name, tmp_path, configuration=LARGE)
    verify(CAPTURES / name, tmp_path)


@pytest.mark.xdist_group("replay-small")
@pytest.mark.parametrize(
    "name", ["esp-tunnel-gcm128", "esp-tunnel-cbc128-sha256", "esp-tunnel-gcm128-corrupt"]
)
def test_icarus(name, tmp_path):
    replay(CAPTURES / name, tmp_path, configuration=SMALL, simulator="icarus")
    verify(CAPTURES / name, tmp_path)


@pytest.mark.xdist_group("replay-small")
def test_several_tunnels_and_clear_packets(tmp_path):
    name = "mixed-four-tunnels-and-clear"
    replay(CAPTURES / name, tmp_path, configuration=SMALL)
    assert verify(CAPTURES / name, tmp_path) == {"server": 160, "network": 128}


@pytest.mark.xdist_group("replay-small")
def test_a_miss_may_cost_its_packet(tmp_path):
    report = replay(CAPTURES / "esp-tunnel-gcm128", tmp_path, configuration=SMALL, miss="drop")
    assert report["ports"]["inject"] < 34 and report["drops"]["no_sa"] >= 2
    with pytest.raises(Differs, match="are missing"):
        verify(CAPTURES / "esp-tunnel-gcm128", tmp_path)
