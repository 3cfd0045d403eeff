"""The fill side of a DFE: from its queue to packets that are through the crypto and wait for commit."""
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.dfe.job import LanePort
from spigate.hdl.net.descriptor import PacketInfo, TableWrite
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
    engine : callable
        Makes the crypto engine of a lane: a component with an ``EngineSignature``.

    Members
    -------
    i : In(packets)
        With alignment bytes. Verdicts are those for a DFE: PUNT, BYPASS, DECRYPT, ENCRYPT; another one drops the packet.
    info : In(stream of PacketInfo)
        One a packet.
    free : Out(12)
        Beats of room in the queue; 0 where there is no room for one more packet.
    tables : In(stream of TableWrite)
        SA and SOURCE entries of this DFE; other tables are taken and ignored, and so are rows 10 and 11 of an SA (commit's). The ``replay``
        row (12) of an SA sets its outbound sequence number. Hand each row to commit in the clock in which it is taken here.
    sequence_request : In(stream of unsigned(16))
        Asks for the outbound sequence number of an SA.
    sequence : Out(stream of unsigned(64))
        The answer: the last number used.
    lane : Out(LanePort).array(lanes)
    order : Out(stream of lane index)
        The lane of each packet, in the order of dispatch, from when the packet was assigned to it, long before its ``done``.
    """

    def __init__(self, *, beat_bytes, lanes, sa_entries, sources, engine):
        if not 1 <= lanes <= 8:
            raise ValueError(f"lanes must be 1 to 8, not {lanes!r}")
        self._beat_bytes, self._lanes, self._sa_entries, self._sources, self._engine = beat_bytes, lanes, sa_entries, sources, engine
        super().__init__({
            "i": In(packets(beat_bytes)), "info": In(stream.Signature(PacketInfo())), "free": Out(12),
            "tables": In(stream.Signature(TableWrite())),
            "sequence_request": In(stream.Signature(16)), "sequence": Out(stream.Signature(64)),
            "lane": Out(LanePort(beat_bytes)).array(lanes), "order": Out(stream.Signature(range(max(lanes, 2)))),
        })

    def elaborate(self, platform):
        m = Module()
        return m
