# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""LiteEth's MAC and RGMII PHY, as an instance of the Verilog that :mod:`spigate.boards.mac` makes."""

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

MODULE = "spigate_mac"
"""Name of the Verilog module."""
WORD_BYTES = 4
"""Bytes of a word on the MAC's streams: at four the core's clock may be slow, and the MAC's own runs free."""


class Word(data.StructLayout):
    """Four bytes of a frame, as LiteEth has them. Byte 0 of the wire is in the low bits.

    Members
    -------
    data : unsigned(32)
    last : unsigned(1)
        The frame ends with this word.
    last_be : unsigned(4)
        With ``last``: the bit of the frame's last byte.
    error : unsigned(4)
        From the MAC: the bits of bytes with which something is wrong; of the last one, if the frame check
        sequence is. To the MAC it is 0.
    """

    def __init__(self):
        super().__init__({"data": 32, "last": 1, "last_be": WORD_BYTES, "error": WORD_BYTES})


class Rgmii(wiring.Signature):
    """The data pins of an RGMII PHY, seen from the MAC."""

    def __init__(self):
        super().__init__(
            {
                "tx_clk": Out(1),
                "tx_ctl": Out(1),
                "tx_data": Out(4),
                "rx_clk": In(1),
                "rx_ctl": In(1),
                "rx_data": In(4),
            }
        )


class Inband(data.StructLayout):
    """What a PHY tells between frames (RGMII 2.0, table 4).

    Members
    -------
    up : unsigned(1)
    speed : unsigned(2)
        0: 10, 1: 100, 2: 1000 Mbit/s.
    full_duplex : unsigned(1)
    """

    def __init__(self):
        super().__init__({"up": 1, "speed": 2, "full_duplex": 1})


class Mac(wiring.Component):
    """A MAC at 1000 Mbit/s, full duplex. It crosses from the pins' clocks to ``sync`` and back, by LiteEth's
    asynchronous queues, and nothing else between them and the core does.

    Parameters
    ----------
    domain : str
        Clock domain of 125 MHz that sends. Received frames have the PHY's own clock.

    Members
    -------
    rgmii : Out(Rgmii)
    sink : In(stream of Word)
        Frames to send, without preamble and frame check sequence. Short ones are padded to 60 bytes. A frame
        that has begun must not pause for longer than 28 words take on the wire.
    source : Out(stream of Word)
        Frames that came, without preamble, with the last beats of their frame check sequence taken off. It
        never waits for long: what the MAC cannot get rid of within 28 words is lost unseen.
    reset : In(1)
        Sets back all of it, in all its clock domains, for as long as it is 1. Frames in it are lost.
    preamble_errors, crc_errors : Out(32)
        What LiteEth counts: frames without a start delimiter, of which nothing arrives at ``source``, and
        those with a wrong frame check sequence. They wrap.
    inband : Out(Inband)
        It says something where the PHY sends in-band status.
    """

    def __init__(self, *, domain: str):
        self._domain = domain
        super().__init__(
            {
                "rgmii": Out(Rgmii()),
                "sink": In(stream.Signature(Word())),
                "source": Out(stream.Signature(Word())),
                "reset": In(1),
                "preamble_errors": Out(32),
                "crc_errors": Out(32),
                "inband": Out(Inband()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        reset = ResetSignal() | self.reset
        ports = {f"i_sink_{name}": self.sink.payload[name] for name in Word().members}
        ports |= {f"o_source_{name}": self.source.payload[name] for name in Word().members}
        m.submodules.mac = Instance(
            MODULE,
            i_sys_clk=ClockSignal(),
            i_sys_rst=reset,
            i_tx_clk=ClockSignal(self._domain),
            i_reset=reset,
            o_rgmii_clock_tx=self.rgmii.tx_clk,
            o_rgmii_tx_ctl=self.rgmii.tx_ctl,
            o_rgmii_tx_data=self.rgmii.tx_data,
            i_rgmii_clock_rx=self.rgmii.rx_clk,
            i_rgmii_rx_ctl=self.rgmii.rx_ctl,
            i_rgmii_rx_data=self.rgmii.rx_data,
            i_sink_valid=self.sink.valid,
            o_sink_ready=self.sink.ready,
            o_source_valid=self.source.valid,
            i_source_ready=self.source.ready,
            o_preamble_errors=self.preamble_errors,
            o_crc_errors=self.crc_errors,
            o_inband=self.inband,
            **ports,
        )
        return m
