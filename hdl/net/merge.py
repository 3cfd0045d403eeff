# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Several streams into one, round robin, item by item or packet by packet."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


def rotate_pick(m: Module, requests, previous, *, count: int) -> tuple[Signal, Signal]:
    """Who of ``requests`` comes next after ``previous``: (its number, whether there is one).
    Combinational.
    """
    choice = Signal(range(count))
    found = Signal()
    m.d.comb += [found.eq(requests.any()), choice.eq(previous)]
    with m.Switch(previous):
        for start in range(count):
            with m.Case(start):
                # The last assignment wins, so the nearest successor is assigned last.
                for step in reversed(range(1, count + 1)):
                    with m.If(requests[(start + step) % count]):
                        m.d.comb += choice.eq((start + step) % count)
    return choice, found


class Merge(wiring.Component):
    """Merges ``count`` streams. Nothing is lost, and each gets its turn.

    Parameters
    ----------
    shape : shape-like
        Of the payloads.
    count : int
        Streams to merge.
    last : callable or None
        Maps a payload to whether it ends a packet; items up to it stay together. None: each item is alone.

    Members
    -------
    i : In(stream).array(count)
    o : Out(stream)
        One clock later. Between two packets of the same stream a clock may pass without an item.
    """

    def __init__(self, shape, *, count: int, last: Callable[[Any], Value] | None = None):
        if count < 1:
            raise ValueError(f"count must be 1 or more, not {count!r}")
        self._count, self._last = count, last or (lambda payload: 1)
        super().__init__({"i": In(stream.Signature(shape)).array(count), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        count = self._count
        granted = Signal(range(count))
        busy = Signal()
        offered = Signal(count)
        waiting = Signal(count)
        room = Signal()
        ended = Signal()
        payloads = Array(port.payload for port in self.i)
        payload = Signal.like(self.o.payload)
        m.d.comb += [
            payload.eq(payloads[granted]),
            room.eq(~self.o.valid | self.o.ready),
            ended.eq(busy & offered.bit_select(granted, 1) & room & self._last(payload)),
        ]
        choice, found = rotate_pick(m, waiting, granted, count=count)
        for at, port in enumerate(self.i):
            mine = busy & (granted == at)
            # A stream's next packet is seen only once its present one is over.
            m.d.comb += [
                offered[at].eq(port.valid),
                waiting[at].eq(port.valid & ~mine),
                port.ready.eq(mine & room),
            ]
        with m.If(room):
            # The payload is loaded where there is none too, so that the last one does not stay.
            m.d.sync += [self.o.valid.eq(busy & offered.bit_select(granted, 1)), self.o.payload.eq(payload)]
        with m.If(~busy | ended):
            m.d.sync += [busy.eq(found), granted.eq(choice)]
        return m
