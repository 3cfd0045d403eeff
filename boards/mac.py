# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The Verilog of LiteEth's MAC with an RGMII PHY for ECP5, made where it is needed and kept in the cache.

The MAC is LiteEth's: preamble, padding, frame check sequence, gap, and the one place in which a board's
Ethernet ports cross clock domains. Two things are added that LiteEth's PHY leaves out. It must mark a frame's
last byte, or the MAC compares no check sequence. And RGMII tells of RX_ER by a control line that differs
between the two edges (RGMII 2.0, 3.4): a frame in which that happens is bad whatever its check sequence says
(IEEE 802.3 35.2.1.5).
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spigate.boards import tools
from spigate.boards.tools import call
from spigate.firmware_py.errors import ToolMissing
from spigate.hdl import verilog
from spigate.hdl.board.mac import MODULE, WORD_BYTES
from spigate.sim.cache import cached, digest

PACKAGES = ("liteeth", "litex", "migen")
TAP_PS, TAPS = 25, 128
"""Step and steps of an ECP5 input or output delay (Lattice FPGA-TN-02035, DELAYG)."""
PLAIN = "read_verilog litex.v; proc -noopt; write_rtlil mac.il"
"""LiteX writes combinational processes that assign with ``<=`` and read what they assign. Event-driven
simulators run in circles in them, at time 0; to yosys they are logic.
"""


@dataclass(frozen=True)
class Delays:
    """What a board's pins add, so that clock and data are 2 ns apart at both ends (RGMII 2.0, 3.3). Where
    the PHY adds it, as nearly all do, it is 0 here.

    Members
    -------
    tx_ps : int
        The transmit clock is so much later than data, in picoseconds.
    rx_ps : int
        Received data are so much later than at the pins. A positive value moves data behind the *next* edge
        of the clock: with 2000 a PHY that does not delay its clock is sampled at the right time.
    """

    tx_ps: int = 0
    rx_ps: int = 0

    def __post_init__(self) -> None:
        for name, value in (("tx_ps", self.tx_ps), ("rx_ps", self.rx_ps)):
            if not 0 <= value < TAP_PS * TAPS:
                raise ValueError(f"{name} must be 0 to {TAP_PS * TAPS - 1}, not {value!r}")


def versions() -> tuple[str, ...]:
    """Of what makes the MAC. Raises ToolMissing where a package is not installed."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise ToolMissing(f"{package} is not installed: pip install 'spigate[boards]'")
    return tuple(f"{package} {version(package)}" for package in PACKAGES)


def mac(delays: Delays) -> Path:
    """The Verilog file of the module :data:`MODULE`; one that was made before is found again.

    Raises
    ------
    ToolMissing
        LiteEth, LiteX or Migen is not installed.
    """
    with cached(f"macs/{digest(delays, versions(), tools.versions(), Path(__file__).read_text())}") as (
        folder,
        scratch,
    ):
        if scratch:
            # In a process of its own: Migen names signals after variables of all functions that called it.
            arguments = [str(delays.tx_ps), str(delays.rx_ps), "litex.v"]
            subprocess.run([sys.executable, "-m", __name__, *arguments], cwd=scratch, check=True)
            call("yosys", "-q", "-p", PLAIN, folder=scratch)
            text = verilog.from_rtlil((scratch / "mac.il").read_text())
            (scratch / f"{MODULE}.v").write_text(text)
    return folder / f"{MODULE}.v"


def write(delays: Delays, path: Path) -> None:
    """Writes LiteX's Verilog, without what changes from one run to the next: it notes the time."""
    from litex.build.lattice.common import lattice_ecp5_special_overrides
    from litex.gen.fhdl.verilog import convert

    core, ports = _core(delays)
    text: str = convert(
        core, ports, name=MODULE, special_overrides=lattice_ecp5_special_overrides
    ).main_source
    text = re.sub(r"//[^\n]*", "", text)
    path.write_text(re.sub(r"\n\s*\n+", "\n\n", text).lstrip())


def _core(delays: Delays) -> tuple[Any, set[Any]]:
    from liteeth.mac.core import LiteEthMACCore
    from liteeth.phy.ecp5rgmii import LiteEthPHYRGMII
    from litex.gen import ClockDomain, LiteXModule, Record, Signal
    from migen.genlib.cdc import MultiReg

    clocks = Record([("tx", 1), ("rx", 1)], name="rgmii_clock")
    pads = Record([("rx_ctl", 1), ("rx_data", 4), ("tx_ctl", 1), ("tx_data", 4)], name="rgmii")
    tx_clk, reset = Signal(name="tx_clk"), Signal(name="reset")
    core = LiteXModule()
    core.cd_sys = ClockDomain("sys")
    core.phy = phy = LiteEthPHYRGMII(
        clocks,
        pads,
        with_hw_init_reset=False,
        tx_delay=_seconds(delays.tx_ps),
        rx_delay=_seconds(delays.rx_ps),
        tx_clk=tx_clk,
    )
    core.mac = mac = LiteEthMACCore(phy, 8 * WORD_BYTES)
    _complete(phy, pads)
    core.comb += phy.crg._reset.storage.eq(reset)
    status = phy.rx.inband_status.fields
    link = Signal(4, name="inband")
    for at, field in enumerate((status.link_status, status.clock_speed, status.duplex_status)):
        low = (0, 1, 3)[at]
        core.specials += MultiReg(field, link[low : low + len(field)], "sys")
    ports = {core.cd_sys.clk, core.cd_sys.rst, tx_clk, reset, link, *clocks.flatten(), *pads.flatten()}
    for prefix, stream in (("sink", mac.sink), ("source", mac.source)):
        for name in ("valid", "ready", "last", "data", "last_be", "error"):
            signal = getattr(stream, name)
            signal.name_override = f"{prefix}_{name}"
            ports.add(signal)
    for name in ("preamble_errors", "crc_errors"):
        signal = getattr(mac.rx_datapath, name).status
        signal.name_override = name
        ports.add(signal)
    return core, ports


def _seconds(ps: int) -> float:
    """A delay for LiteEth, which rounds it down to whole steps: the middle of the step that is meant."""
    return (ps // TAP_PS + 0.5) * TAP_PS * 1e-12


def _complete(phy: Any, pads: Any) -> None:
    """Gives the PHY's stream what LiteEth leaves at 0: ``last_be``, without which the MAC compares no frame
    check sequence at all; and ``error``, from the byte in which RX_ER is set to the frame's end, for the MAC
    forgets errors of a frame's first bytes.
    """
    from litex.build.io import DDRInput
    from litex.gen import Instance, Signal

    rx = phy.rx
    control = next(
        item.get_io("Z")
        for item in rx._fragment.specials
        if isinstance(item, Instance) and item.get_io("A") is pads.rx_ctl
    )
    edges = next(item for item in rx._fragment.specials if isinstance(item, DDRInput) and item.i is control)
    # As many registers as data and RX_DV pass through.
    valid = Signal(name="byte_valid")
    error = Signal(name="byte_error")
    rx.comb += rx.source.last_be.eq(rx.source.last)
    rx.sync += [
        valid.eq(edges.o1),
        error.eq(edges.o1 & ~edges.o2),
        rx.source.error.eq(valid & (error | rx.source.error)),
    ]


if __name__ == "__main__":
    write(Delays(int(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]))
