# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The host link over a serial line, from the pads to the gateway's ports."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from spigate.hdl.board.host_link import RING_BITS, HostLink
from spigate.hdl.board.uart import UartReceiver, UartTransmitter
from spigate.hdl.board.uartbone import UartBone

RECEIVE_BYTES = 2048
"""What is kept while the link is busy with an answer: a block RAM full of bytes."""
PAUSE_SECONDS = 0.1
"""A pause that ends a command half sent, as LiteX has it."""


class UartLink(wiring.Component):
    """A :class:`~spigate.hdl.board.host_link.HostLink` behind a UART with LiteX's UARTBone framing.

    Parameters
    ----------
    beat_bytes, punt_bits, inject_bits : int
        As of HostLink.
    clock_hz, baud : float
        Clocks and bits a second.
    pause_clocks : int or None
        Clocks of the pause that ends a command half sent; None: :data:`PAUSE_SECONDS`.

    Members
    -------
    rx : In(1), tx : Out(1)
        The pads.
    *others* : as of HostLink, but for what its transport has.
    """

    def __init__(
        self,
        *,
        beat_bytes: int,
        clock_hz: float,
        baud: float,
        pause_clocks: int | None = None,
        punt_bits: int = RING_BITS,
        inject_bits: int = RING_BITS,
    ):
        self._receiver = UartReceiver(clock_hz=clock_hz, baud=baud)
        self._transmitter = UartTransmitter(clock_hz=clock_hz, baud=baud)
        self._bone = UartBone(pause_clocks=pause_clocks or round(clock_hz * PAUSE_SECONDS))
        self._link = HostLink(
            beat_bytes=beat_bytes,
            punt_bits=punt_bits,
            inject_bits=inject_bits,
            receive_bytes=RECEIVE_BYTES,
        )
        inner = {"bus", "framing_error", "overrun", "timeout"}
        self._outer = {
            name: member for name, member in self._link.signature.members.items() if name not in inner
        }
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), **self._outer})

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = self._receiver
        m.submodules.transmitter = transmitter = self._transmitter
        m.submodules.bone = bone = self._bone
        m.submodules.link = link = self._link
        m.submodules.received = received = SyncFIFOBuffered(width=8, depth=RECEIVE_BYTES)
        for name in self._outer:
            connect(m, flipped(getattr(self, name)), getattr(link, name))
        connect(m, received.r_stream, bone.i)
        connect(m, bone.o, transmitter.i)
        connect(m, bone.bus, link.bus)
        m.d.comb += [
            receiver.pad.eq(self.rx),
            self.tx.eq(transmitter.pad),
            received.w_data.eq(receiver.data),
            received.w_en.eq(receiver.received),
            link.framing_error.eq(receiver.framing_error),
            link.overrun.eq(receiver.received & ~received.w_rdy),
            link.timeout.eq(bone.timeout),
        ]
        return m
