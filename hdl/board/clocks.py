# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A board's clocks and resets, out of one oscillator and one PLL of an ECP5."""

from dataclasses import dataclass

from amaranth.hdl import C, ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In

TX = "tx"
"""The clock domain that sends at the RGMII pins."""
TX_MHZ = 125
VCO_MHZ = (400, 800)
"""Range of the oscillator in the PLL (Lattice FPGA-DS-02012, sysCLOCK PLL timing)."""
PHASE_MHZ = (10, 400)
"""Range of the frequency at which phases are compared; with whole multiples the lock is fastest. Lattice
allows from 3.125 MHz on, below 10 with more jitter.
"""
DIVIDERS = range(1, 129)


@dataclass(frozen=True)
class Pll:
    """Dividers of an EHXPLLL. Its oscillator runs at ``input / reference * feedback * send``.

    Members
    -------
    reference : int
        Of the clock that comes in.
    feedback : int
        Of the first output, which is fed back.
    send : int
        Of the oscillator, for the first output: :data:`TX_MHZ`.
    core : int
        Likewise for the second one: the core's clock.
    """

    reference: int
    feedback: int
    send: int
    core: int


def dividers(input_mhz: float, core_mhz: float) -> Pll:
    """The dividers for these clocks, exact ones.

    Raises
    ------
    ValueError
        There are none; the message has the core's clocks that are nearest.
    """
    found, possible = [], set()
    for reference in DIVIDERS:
        phase = input_mhz / reference
        feedback = TX_MHZ / phase
        if not PHASE_MHZ[0] <= phase <= PHASE_MHZ[1] or feedback % 1 or feedback not in DIVIDERS:
            continue
        for send in DIVIDERS:
            vco = TX_MHZ * send
            if VCO_MHZ[0] <= vco <= VCO_MHZ[1]:
                possible |= {vco / core for core in DIVIDERS}
                core = vco / core_mhz
                if not core % 1 and core in DIVIDERS:
                    found.append(Pll(reference, int(feedback), send, int(core)))
    if not found:
        near = sorted(sorted(possible, key=lambda mhz: abs(mhz - core_mhz))[:4])
        raise ValueError(
            f"a PLL makes no {core_mhz:g} MHz beside {TX_MHZ} MHz out of {input_mhz:g} MHz; the nearest are "
            f"{', '.join(f'{mhz:.2f}' for mhz in near)}"
        )
    return found[0]


class Clocks(wiring.Component):
    """Drives the domains ``sync`` (the core's) and :data:`TX`, which whoever has this in it defines. ``sync``
    is in reset until the PLL has locked; :data:`TX` needs no reset.

    Parameters
    ----------
    input_mhz, core_mhz : float

    Members
    -------
    clock : In(1)
        The board's oscillator.
    reset : In(1)
        A button, or 0; it may come at any time.
    """

    def __init__(self, *, input_mhz: float, core_mhz: float):
        self._pll = dividers(input_mhz, core_mhz)
        self._mhz = input_mhz, core_mhz
        super().__init__({"clock": In(1), "reset": In(1)})

    def elaborate(self, platform):
        m = Module()
        pll = self._pll
        locked = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self._mhz[0]:g}",
            a_FREQUENCY_PIN_CLKOP=f"{TX_MHZ}",
            a_FREQUENCY_PIN_CLKOS=f"{self._mhz[1]:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=pll.reference,
            p_CLKFB_DIV=pll.feedback,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=pll.send,
            p_CLKOP_CPHASE=pll.send - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=pll.core,
            p_CLKOS_CPHASE=pll.core - 1,
            p_CLKOS_FPHASE=0,
            i_RST=C(0),
            i_STDBY=C(0),
            i_CLKI=self.clock,
            i_CLKFB=ClockSignal(TX),
            i_PHASESEL0=C(0),
            i_PHASESEL1=C(0),
            i_PHASEDIR=C(1),
            i_PHASESTEP=C(1),
            i_PHASELOADREG=C(1),
            i_PLLWAKESYNC=C(0),
            i_ENCLKOP=C(0),
            i_ENCLKOS=C(0),
            o_CLKOP=ClockSignal(TX),
            o_CLKOS=ClockSignal(),
            o_LOCK=locked,
        )
        m.submodules.reset = ResetSynchronizer(~locked | self.reset, domain="sync")
        return m
