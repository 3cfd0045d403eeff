# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway around a small engine: the control element believes the capability registers, and does itself
what the engine does not declare.
"""

from pathlib import Path

import pytest

from spigate.sim.design import Configuration
from spigate.sim.replay import replay
from spigate.sim.verify import verify

pytestmark = pytest.mark.slow

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
GCM = Configuration(beat_bytes=8, dfes=1, engine="gcm-small")


@pytest.mark.xdist_group("engine-gcm-small")
@pytest.mark.parametrize("name", ["esp-tunnel-gcm128", "esp-transport-gcm256"])
def test_hardware_does_what_the_engine_declares(name, tmp_path):
    report = replay(CAPTURES / name, tmp_path, configuration=GCM)
    # In transport mode nothing comes in at the server port, so only one SA is asked for.
    assert not report["software"] and report["programmed"]["sa"] == (2 if "tunnel" in name else 1)
    verify(CAPTURES / name, tmp_path)


@pytest.mark.xdist_group("engine-gcm-small")
@pytest.mark.parametrize("name", ["esp-tunnel-cbc128-sha256", "esp-tunnel-null-sha256"])
def test_the_control_element_does_what_it_does_not(name, tmp_path):
    report = replay(CAPTURES / name, tmp_path, configuration=GCM)
    assert sum(report["software"].values()) == sum(verify(CAPTURES / name, tmp_path).values())
    assert "sa" not in report["programmed"]


@pytest.mark.xdist_group("engine-gcm-small")
def test_each_tunnel_goes_where_it_can_be_done(tmp_path):
    """Of four tunnels those with AES-GCM are in hardware, the others in software, all at the same time."""
    name = "mixed-four-tunnels-and-clear"
    report = replay(CAPTURES / name, tmp_path, configuration=GCM)
    assert verify(CAPTURES / name, tmp_path) == {"server": 160, "network": 128}
    assert report["software"] and 0 < report["programmed"]["sa"] < 8
