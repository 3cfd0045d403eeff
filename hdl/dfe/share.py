# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Two readers, one after the other in the packet's way, on the read ports of several lanes."""

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.dfe.job import BufferRead

IN_FLIGHT = 8
"""Reads of a lane that have not been answered, at most."""


class ReadShare(wiring.Component):
    """Gives each lane's read port to the reader that wants it; reader 0 goes before reader 1 where both want
    the same lane.

    Parameters
    ----------
    lanes : int

    Members
    -------
    reader : In(BufferRead).array(2)
        A reader stays with a lane until its reads are answered.
    reader_lane : In(3).array(2)
        The lane that each reader means.
    lane : Out(BufferRead).array(lanes)
    """

    def __init__(self, *, lanes: int):
        self._lanes = lanes
        super().__init__(
            {
                "reader": In(BufferRead()).array(2),
                "reader_lane": In(3).array(2),
                "lane": Out(BufferRead()).array(lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        answers: list[list[Value]] = [[], []]
        for at in range(self._lanes):
            lane = self.lane[at]
            wants = [
                reader.enable & (wanted == at)
                for reader, wanted in zip(self.reader, self.reader_lane, strict=False)
            ]
            # Answers come in order; `owners` remembers whose they are.
            m.submodules[f"owners_{at}"] = owners = fifo.SyncFIFO(width=1, depth=IN_FLIGHT)
            ready = Signal(name=f"ready_{at}")
            winner = Signal(name=f"winner_{at}")
            m.d.comb += [
                winner.eq(~wants[0]),
                ready.eq(lane.ready & owners.w_rdy),
                lane.enable.eq((wants[0] | wants[1]) & owners.w_rdy),
                lane.buffer.eq(Array(reader.buffer for reader in self.reader)[winner]),
                lane.address.eq(Array(reader.address for reader in self.reader)[winner]),
                owners.w_data.eq(winner),
                owners.w_en.eq(lane.enable & lane.ready),
                owners.r_en.eq(lane.valid),
            ]
            for number, reader in enumerate(self.reader):
                with m.If((self.reader_lane[number] == at) & (winner == number)):
                    m.d.comb += reader.ready.eq(ready)
                answers[number].append(lane.valid & (owners.r_data == number))
        for reader, valid, wanted in zip(self.reader, answers, self.reader_lane, strict=False):
            index = wanted[: (self._lanes - 1).bit_length()]
            m.d.comb += [
                reader.valid.eq(Array(valid)[index]),
                reader.data.eq(Array(lane.data for lane in self.lane)[index]),
            ]
        return m
