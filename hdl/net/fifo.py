"""The packet queue with commit and rollback: nothing of a packet is seen before all of it has arrived."""
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.net.descriptor import Reason
from spigate.hdl.net.memory import BlockMemory
from spigate.hdl.net.packet import packets


class PacketFifo(wiring.Component):
    """A queue of whole packets.

    A packet becomes visible at ``o`` in the moment its last beat is taken at ``i``. An aborted packet leaves no
    trace. So packets at ``o`` never pause and never abort.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    depth : int
        Beats it holds, a power of two, 16 or more.
    drop : bool
        What happens to a packet for which there is no room. False: the queue waits for room (a packet longer
        than the queue would wait forever, so ``depth`` must hold the longest one). True: the queue takes the
        whole packet and forgets it.

    Members
    -------
    i, o : packet streams
    dropped : Out(stream of Reason)
        One QUEUE_FULL for each packet that was dropped for want of room (``drop``). The packet's last beat
        waits for it to be taken.
    free : Out(range(depth + 1))
        Beats for which there is room, a packet in the making counted.
    """

    def __init__(self, *, beat_bytes: int, depth: int, drop: bool = False):
        if depth < 16 or depth & depth - 1:
            raise ValueError(f"depth must be a power of two, 16 or more, not {depth!r}")
        self._beat_bytes, self._depth, self._drop = beat_bytes, depth, drop
        super().__init__({
            "i": In(packets(beat_bytes)), "o": Out(packets(beat_bytes)),
            "dropped": Out(stream.Signature(6)), "free": Out(range(depth + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        depth = self._depth
        stored = data.StructLayout({"data": 8 * self._beat_bytes, "last": 1, "count": range(self._beat_bytes + 1)})
        m.submodules.memory = memory = BlockMemory(width=stored.size, depth=depth)

        # One bit more than an address, so that full and empty differ.
        write, commit, read = Signal(range(2 * depth)), Signal(range(2 * depth)), Signal(range(2 * depth))
        used = Signal(range(depth + 1))
        room = Signal()
        losing = Signal()
        take = Signal()
        beat, entry = self.i.payload, Signal(stored)
        m.d.comb += [
            entry.data.eq(beat.data), entry.last.eq(beat.last), entry.count.eq(beat.count),
            used.eq((write - read)[:len(write)]), room.eq(write ^ read != depth), self.free.eq(depth - used),
            take.eq(self.i.valid & self.i.ready),
            memory.write_address.eq(write[:-1]), memory.write_data.eq(entry),
            memory.write_enable.eq(take & room & ~losing),
        ]
        lost = losing | ~room
        if self._drop:
            m.d.comb += [
                self.dropped.payload.eq(Reason.QUEUE_FULL),
                self.dropped.valid.eq(self.i.valid & beat.last & ~beat.abort & lost),
                self.i.ready.eq(~self.dropped.valid | self.dropped.ready),
            ]
        else:
            m.d.comb += self.i.ready.eq(room)
        with m.If(take):
            m.d.sync += [losing.eq(lost & ~beat.last), write.eq(write + 1)]
            with m.If(lost):
                m.d.sync += write.eq(write)
            with m.If(beat.last):
                with m.If(lost | beat.abort):
                    m.d.sync += write.eq(commit)
                with m.Else():
                    m.d.sync += commit.eq(write + 1)

        # Reads take two clocks: beats move through the memory's two stages, and stand still there while `o` waits.
        arriving, moves, fetch = Signal(2), Signal(), Signal()
        head = stored(memory.read_data)
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready), fetch.eq(moves & (read != commit)),
            memory.read_address.eq(read[:-1]), memory.read_enable.eq(moves),
            self.o.valid.eq(arriving[-1]),
            self.o.payload.data.eq(head.data), self.o.payload.last.eq(head.last), self.o.payload.count.eq(head.count),
        ]
        m.d.sync += read.eq(read + fetch)
        with m.If(moves):
            m.d.sync += arriving.eq(arriving << 1 | fetch)
        return m
