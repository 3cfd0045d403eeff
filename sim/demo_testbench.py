# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Inside the simulator: what :mod:`spigate.sim.demo` starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cocotb

from spigate.sim import demo, traffic
from spigate.sim.build import parameters
from spigate.sim.play import play


@cocotb.test()
async def run(dut: Any) -> None:
    given = parameters()
    mix = traffic.fig_2(Path(given["captures"]))
    await play(dut, replace(mix, frames=mix.frames[: given["frames"]]), demo.SETTINGS, Path(given["out"]))
