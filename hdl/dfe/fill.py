# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The fill side of a DFE: from its queue to packets that are through the crypto and wait for commit."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.copies import copies
from spigate.hdl.crypto.interface import Engine
from spigate.hdl.dfe.dispatch import Dispatch
from spigate.hdl.dfe.job import BUFFERS, LanePort, check_sizes
from spigate.hdl.dfe.lane import Lane
from spigate.hdl.dfe.sad import Sad
from spigate.hdl.dfe.sequence import SequenceNumbers
from spigate.hdl.dfe.source import ClearSources
from spigate.hdl.dfe.writer import Writer
from spigate.hdl.net.descriptor import PacketInfo, TableWrite
from spigate.hdl.net.fifo import PacketFifo
from spigate.hdl.net.packet import packets

QUEUE_BYTES = 4096
"""Bytes of packets that a DFE's queue holds."""
QUEUE_PACKETS = 16
"""Packets that a DFE's queue holds, however short."""


class Fill(wiring.Component):
    """Queue, dispatch, SAD, sequence numbers, clear sources, and lanes with their engines.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat.
    lanes : int
        Lanes, 1 to 8.
    sa_entries : int
        SAs of the SAD, a power of two, 2 or more.
    sources : int
        Sources that may speak in the clear, 1 or more.
    engine : type of Engine
        Makes the crypto engine of a lane, and declares what it is.

    Members
    -------
    i : In(packets)
        With alignment bytes. The verdicts are PUNT, BYPASS, DECRYPT, ENCRYPT; another one drops the packet.
    info : In(stream of PacketInfo)
        One a packet.
    free : Out(12)
        Beats of room in the queue; 0 where there is no room for one more packet.
    tables : In(stream of TableWrite)
        SA and SOURCE entries of this DFE; other tables are taken and ignored, and so are rows 10 and 11 of an
        SA (commit's). The ``replay`` row (12) of an SA sets its outbound sequence number. Hand each row to
        commit in the clock in which it is taken here.
    sequence_request : In(stream of unsigned(16))
        Asks for the outbound sequence number of an SA.
    sequence : Out(stream of unsigned(64))
        The answer: the last number used.
    wipes : Out(1)
        A strobe: a WIPE was dispatched, which commit tells when it is through.
    unclean : Out(1)
        There are more to come.
    lane : Out(LanePort).array(lanes)
    order : Out(stream of lane index)
        The lane of each packet, in the order of dispatch, from when a buffer was claimed for it, long before
        its ``done``.
    """

    def __init__(self, *, beat_bytes, lanes, sa_entries, sources, engine: type[Engine]):
        check_sizes(lanes=lanes, sa_entries=sa_entries, sources=sources)
        self._beat_bytes, self._lanes, self._engine = beat_bytes, lanes, engine
        self._sa_entries, self._sources = sa_entries, sources
        super().__init__(
            {
                "i": In(packets(beat_bytes)),
                "info": In(stream.Signature(PacketInfo())),
                "free": Out(12),
                "tables": In(stream.Signature(TableWrite())),
                "sequence_request": In(stream.Signature(16)),
                "sequence": Out(stream.Signature(64)),
                "wipes": Out(1),
                "unclean": Out(1),
                "lane": Out(LanePort()).array(lanes),
                "order": Out(stream.Signature(range(max(lanes, 2)))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        beat_bytes, lanes = self._beat_bytes, self._lanes
        m.submodules.queue = queue = PacketFifo(beat_bytes=beat_bytes, depth=QUEUE_BYTES // beat_bytes)
        m.submodules.infos = infos = fifo.SyncFIFO(width=PacketInfo().size, depth=QUEUE_PACKETS)
        m.submodules.sad = sad = Sad(entries=self._sa_entries)
        m.submodules.numbers = numbers = SequenceNumbers(entries=self._sa_entries)
        m.submodules.clear = clear = ClearSources(entries=self._sources)
        m.submodules.dispatch = dispatch = Dispatch(
            lanes=lanes, sa_entries=self._sa_entries, knows=self._engine.algorithms
        )
        m.submodules.writer = writer = Writer(beat_bytes=beat_bytes, lanes=lanes)
        m.submodules.orders = orders = fifo.SyncFIFO(width=len(self.order.payload), depth=BUFFERS * lanes)

        wiring.connect(m, wiring.flipped(self.i), queue.i)
        wiring.connect(m, queue.o, writer.i)
        wiring.connect(m, dispatch.plan, writer.plan)
        m.d.comb += [
            infos.w_data.eq(self.info.payload),
            infos.w_en.eq(self.info.valid),
            self.info.ready.eq(infos.w_rdy),
            dispatch.info.payload.eq(infos.r_data),
            dispatch.info.valid.eq(infos.r_rdy),
            infos.r_en.eq(dispatch.info.ready),
            self.free.eq(Mux(infos.w_rdy, queue.free, 0)),
            orders.w_data.eq(dispatch.order.payload),
            orders.w_en.eq(dispatch.order.valid),
            dispatch.order.ready.eq(orders.w_rdy),
            self.order.payload.eq(orders.r_data),
            self.order.valid.eq(orders.r_rdy),
            orders.r_en.eq(self.order.ready),
            sad.start.eq(dispatch.sad_start),
            dispatch.sad_granted.eq(sad.granted),
            sad.running.eq(dispatch.sad_running),
            sad.blank.eq(dispatch.sad_blank),
            dispatch.sad_erased.eq(sad.erased),
            sad.index.eq(dispatch.sa),
            sad.row.eq(dispatch.sad_row),
            dispatch.sad_data.eq(sad.data),
            numbers.look.eq(dispatch.look),
            numbers.index.eq(dispatch.sa),
            numbers.take.eq(dispatch.take),
            dispatch.number.eq(numbers.number),
            dispatch.exhausted.eq(numbers.exhausted),
            clear.start.eq(dispatch.source_start),
            clear.address.eq(dispatch.source),
            clear.ingress.eq(dispatch.ingress),
            dispatch.allowed.eq(clear.allowed),
            # The SAD says when a burst may come; the other tables always take it.
            self.tables.ready.eq(sad.tables.ready),
            sad.tables.valid.eq(self.tables.valid),
            numbers.tables.valid.eq(self.tables.valid & sad.tables.ready),
            clear.tables.valid.eq(self.tables.valid & sad.tables.ready),
            *(table.tables.payload.eq(self.tables.payload) for table in (sad, numbers, clear)),
        ]
        m.d.comb += [
            self.wipes.eq(Cat(port.claim & port.wipe for port in dispatch.lane).any()),
            self.unclean.eq(sad.erased | Cat(port.unclean for port in dispatch.lane).any()),
        ]
        wiring.connect(m, wiring.flipped(self.sequence_request), numbers.request)
        wiring.connect(m, numbers.response, wiring.flipped(self.sequence))

        engines = copies(platform, "engine", self._engine, lanes)
        shells = copies(
            platform,
            "lane",
            lambda: Lane(
                beat_bytes=beat_bytes, contexts=self._engine.contexts, word_bytes=self._engine.word_bytes
            ),
            lanes,
        )
        for at, (engine, lane) in enumerate(zip(engines, shells, strict=True)):
            m.submodules[f"engine_{at}"], m.submodules[f"lane_{at}"] = engine, lane
            wiring.connect(m, dispatch.lane[at], lane.dispatch)
            wiring.connect(m, writer.fill[at], lane.fill)
            wiring.connect(m, lane.port, wiring.flipped(self.lane[at]))
            for mine, its in zip(lane.context, engine.context, strict=True):
                wiring.connect(m, mine, its)
        return m
