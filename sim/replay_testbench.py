# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: what :func:`spigate.sim.replay.replay` starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cocotb

from spigate.firmware_py.captures import capture
from spigate.firmware_py.captures.sources import Sources
from spigate.firmware_py.control.settings import Miss, Settings
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.tables.interface import BALANCES
from spigate.sim.build import parameters
from spigate.sim.play import play
from spigate.sim.replay import CFE, PATIENCE


@cocotb.test()
async def replay(dut: Any) -> None:
    given = parameters()
    balance = BALANCES[given["balance"]]
    settings = Settings(
        default=PolicyAction.BYPASS,
        miss=Miss(given["miss"]),
        cfe=replace(CFE, balance=balance, patience=PATIENCE),
    )
    await play(dut, capture.read(Sources.of_texts(given["files"])), settings, Path(given["out"]))
