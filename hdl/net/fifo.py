# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The packet queue with commit and rollback: nothing of a packet is seen before all of it has arrived."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Reason
from spigate.hdl.net.memory import BlockMemory
from spigate.hdl.net.packet import packets


class PacketFifo(wiring.Component):
    """A queue of whole packets.

    A packet becomes visible at ``o`` in the moment its last beat is taken at ``i``. An aborted packet
    leaves no trace. So packets at ``o`` never pause and never abort.

    What was read, aborted, or in the queue before a reset does not stay in the memory (``wipe``): clocks in
    which no beat is taken overwrite it, a beat each, so ``depth`` of them at the most and two more.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    depth : int
        Beats it holds, a power of two, 16 or more.
    drop : bool
        What happens to a packet for which there is no room. False: the queue waits for room (a packet longer
        than the queue would wait forever, so ``depth`` must hold the longest one). True: the queue takes the
        whole packet and forgets it; it never waits for room.
    trim : bool
        Bytes beyond a packet's end are zero at ``o``.
    wipe : bool
        False: what was read stays until other packets overwrite it. For queues of what the wire has shown
        already.

    Members
    -------
    i, o : packet streams
    dropped : Out(stream of Reason)
        One QUEUE_FULL for each packet that was dropped for want of room (``drop``), in the clock in which
        its last beat is taken. Nothing is taken at ``i`` without ``dropped.ready``, so that ``i.ready``
        comes out of nothing else.
    free : Out(range(depth + 1))
        Beats for which there is room, a packet in the making counted.
    """

    def __init__(
        self, *, beat_bytes: int, depth: int, drop: bool = False, trim: bool = False, wipe: bool = True
    ):
        if depth < 16 or depth & depth - 1:
            raise ValueError(f"depth must be a power of two, 16 or more, not {depth!r}")
        self._beat_bytes, self._depth, self._drop = beat_bytes, depth, drop
        self._trim, self._wipe = trim, wipe
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "o": Out(packets(beat_bytes)),
                "dropped": Out(stream.Signature(6)),
                "free": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self._depth
        stored = data.StructLayout(
            {"data": 8 * self._beat_bytes, "last": 1, "count": range(self._beat_bytes + 1)}
        )
        m.submodules.memory = memory = BlockMemory(width=stored.size, depth=depth)

        # One bit more than an address, so that full and empty differ.
        write = Signal(range(2 * depth))
        commit = Signal(range(2 * depth))
        read = Signal(range(2 * depth))
        used = Signal(range(depth + 1))
        room = Signal()
        losing = Signal()
        take = Signal()
        keep = Signal()
        beat = self.i.payload
        lost = losing | ~room
        m.d.comb += [
            used.eq((write - read)[: len(write)]),
            room.eq(write ^ read != depth),
            self.free.eq(depth - used),
            take.eq(self.i.valid & self.i.ready),
            keep.eq(take & ~lost),
        ]
        # Of the words that hold no packet those from `clean` on may still have something of one.
        clean = Signal(range(2 * depth))
        wipe = Signal()
        if self._wipe:
            m.d.comb += wipe.eq(~keep & (clean ^ read != depth))
            with m.If(wipe | keep & (clean == write)):
                m.d.sync += clean.eq(clean + 1)

        # A beat reaches the memory a clock after it was taken: zeros then come out of its register's own
        # reset.
        entry = Signal(stored)
        m.d.sync += [
            entry.data.eq(beat.data),
            entry.last.eq(beat.last),
            entry.count.eq(beat.count),
            memory.write_address.eq(Mux(keep, write, clean) if self._wipe else write),
            memory.write_enable.eq(keep | wipe),
        ]
        m.d.comb += memory.write_data.eq(entry)
        with m.If(~keep):
            m.d.sync += entry.eq(0)
        for at in range(1, self._beat_bytes) if self._trim else ():
            with m.If(beat.last & (beat.count <= at)):
                m.d.sync += entry.data.word_select(at, 8).eq(0)
        if self._drop:
            m.d.comb += [
                self.dropped.payload.eq(Reason.QUEUE_FULL),
                self.dropped.valid.eq(self.i.valid & beat.last & ~beat.abort & lost),
                self.i.ready.eq(self.dropped.ready),
            ]
        else:
            m.d.comb += self.i.ready.eq(room)
        with m.If(take):
            m.d.sync += [losing.eq(lost & ~beat.last), write.eq(write + 1)]
            with m.If(lost):
                m.d.sync += write.eq(write)
            with m.If(beat.last):
                with m.If(lost | beat.abort):
                    m.d.sync += [write.eq(commit), clean.eq(commit)]
                with m.Else():
                    m.d.sync += commit.eq(write + 1)

        # Reads take two clocks: beats move through the memory's two stages, and stand still there while `o`
        # waits. A packet of one beat is there when that has been written; where there are more, the first
        # one has been by then.
        first = Signal(init=1)
        single = Signal()
        with m.If(take):
            m.d.sync += first.eq(beat.last)
        m.d.sync += single.eq(keep & first & beat.last)
        arriving = Signal(2)
        moves = Signal()
        fetch = Signal()
        head = stored(memory.read_data)
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            fetch.eq(moves & (read != commit) & ~single),
            memory.read_address.eq(read[:-1]),
            memory.read_enable.eq(moves),
            self.o.valid.eq(arriving[-1]),
            self.o.payload.data.eq(head.data),
            self.o.payload.last.eq(head.last),
            self.o.payload.count.eq(head.count),
        ]
        m.d.sync += read.eq(read + fetch)
        with m.If(moves):
            m.d.sync += arriving.eq(arriving << 1 | fetch)
        return m
