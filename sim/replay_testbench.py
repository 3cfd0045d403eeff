"""Inside the simulator: what :func:`spigate.sim.replay.replay` starts."""

from dataclasses import replace
from pathlib import Path

import cocotb

from spigate.firmware_py.captures import capture
from spigate.firmware_py.control.settings import Miss, Settings
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.hdl.contract.enums import Balance
from spigate.sim.build import parameters
from spigate.sim.play import play
from spigate.sim.replay import CFE, PATIENCE


@cocotb.test()
async def replay(dut):
    given = parameters()
    balance = Balance[given["balance"].upper().replace("-", "_")]
    settings = Settings(
        default=PolicyAction.BYPASS,
        miss=Miss(given["miss"]),
        cfe=replace(CFE, balance=balance, patience=PATIENCE),
    )
    await play(dut, capture.read(Path(given["folder"])), settings, Path(given["out"]))
