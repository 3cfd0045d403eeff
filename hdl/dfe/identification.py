# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The Identification of the outer headers that a DFE makes (RFC 791 3.2, RFC 6864 4.3)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net.descriptor import MAX_DFES

SOFTWARE_BITS = 3
"""Numbers whose highest so many bits are 0 are the software path's (``SOFTWARE_NUMBERS`` in
``firmware_py/ipsec/identification.py``)."""


class Identification(wiring.Component):
    """A sequence of numbers for all tunnels of a DFE, none of which another DFE or the software path uses.

    SAs of one pair of addresses need one sequence between them, whatever DFE they are in. The lowest bits
    are the DFE's index, as many as tell ``dfes`` apart; the others count, and leave out what is the
    software path's. So a number comes again after 7/8 of 65536 divided by ``dfes``, rounded up to a power
    of two: 57344 packets with one DFE, 28672 with two, 7168 with eight.

    Parameters
    ----------
    dfes : int
        How many DFEs the gateway has, 1 to :data:`~spigate.hdl.net.descriptor.MAX_DFES`.

    Members
    -------
    index : In(4)
        The DFE's number, 0 to ``dfes`` - 1.
    number : Out(16)
        The next one, never 0.
    take : In(1)
        It is used.
    """

    def __init__(self, *, dfes: int):
        if not 1 <= dfes <= MAX_DFES:
            raise ValueError(f"dfes must be 1 to {MAX_DFES}, not {dfes!r}")
        self._index_bits = (dfes - 1).bit_length()
        super().__init__({"index": In(4), "number": Out(16), "take": In(1)})

    def elaborate(self, platform):
        m = Module()
        bits = 16 - self._index_bits
        first = 1 << bits - SOFTWARE_BITS
        count = Signal(bits, init=first)
        with m.If(self.take):
            m.d.sync += count.eq(Mux(count.all(), first, count + 1))
        m.d.comb += self.number.eq(Cat(self.index[: self._index_bits], count))
        return m
