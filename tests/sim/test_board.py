# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import pytest

from spigate.hdl.net.packet import BEAT_BYTES
from spigate.sim.board import model
from spigate.sim.build import SIMULATORS

pytestmark = pytest.mark.slow

LOOPBACK = Path(__file__).parent / "loopback.v"


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("beat_bytes", BEAT_BYTES)
def test_bus_models(beat_bytes, simulator, tmp_path):
    gateway = tmp_path / "spigate.v"
    gateway.write_text(
        LOOPBACK.read_text().replace("parameter BEAT_BYTES = 8", f"parameter BEAT_BYTES = {beat_bytes}")
    )
    board = model(gateway, beat_bytes=beat_bytes, simulator=simulator)
    assert board.run("tests.sim.bench_board", parameters={"beat_bytes": beat_bytes}) == 7
