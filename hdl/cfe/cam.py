# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The classifier's CAM: an exact-match table in block RAM, one lookup a clock."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.cfe.entry import Entry
from spigate.hdl.cfe.xor import parities
from spigate.hdl.contract import hashing
from spigate.hdl.csr import layout
from spigate.hdl.net.memory import BlockMemory


class CamKey(data.StructLayout):
    """What a lookup compares; bit for bit :func:`spigate.hdl.contract.hashing.cam_key`."""

    def __init__(self):
        super().__init__({"destination": 128, "spi": 32, "protocol": 8, "ipv6": 1})


class CamResult(data.StructLayout):
    """``hit``, and of the entry found: its ``dfe``, ``sa``, ``generation`` and ``route``."""

    def __init__(self):
        super().__init__({"hit": 1, "dfe": 4, "sa": 16, "generation": 8, "route": 8})


FOUND = ("dfe", "sa", "generation", "route")
"""What an entry says, by the names of :class:`CamResult`."""


class Cam(wiring.Component):
    """A hash table of ``ways`` ways; each key can be in one row of each way (see
    :mod:`spigate.hdl.contract.hashing`), and whoever writes the table places it in one of them. A lookup
    reads all ways and compares whole keys, so it never finds a false match. A key that was written twice,
    to move it, is found in the lower way.

    Parameters
    ----------
    entries : int
        64 to 8192. There is half as much room again, so that placement succeeds.
    ways : int

    Members
    -------
    write : In(stream of Entry)
        The index is way * rows + row; one beyond the table is ignored. A lookup sees the old entry or the
        new one: a write waits for a clock in which no lookup reads a row with that number.
    start : In(1)
        Looks ``key`` up.
    key : In(CamKey)
    done : Out(1)
        :data:`LATENCY` clocks after each ``start``, with ``result``.
    result : Out(CamResult)
    """

    LATENCY = 5

    def __init__(self, *, entries: int = 1024, ways: int = hashing.WAYS):
        if not 1 <= ways <= 8:
            raise ValueError(f"ways must be 1 to 8, not {ways!r}")
        self._rows, self._ways = hashing.cam_rows(entries), ways
        super().__init__(
            {
                "write": In(stream.Signature(Entry())),
                "start": In(1),
                "key": In(CamKey()),
                "done": Out(1),
                "result": Out(CamResult()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rows, value_layout = self._rows, layout.row("cam", "value")
        stored = data.StructLayout(
            {
                "key": CamKey(),
                "valid": 1,
                "result": data.StructLayout({name: CamResult()[name].shape for name in FOUND}),
            }
        )

        entry = self.write.payload
        value = value_layout(entry.rows[1])
        new = Signal(stored)
        m.d.comb += [
            new.key.destination.eq(entry.rows[0]),
            new.key.spi.eq(value.spi),
            new.key.protocol.eq(value.protocol),
            new.key.ipv6.eq(value.ipv6),
            new.valid.eq(value.valid),
            *(new.result[name].eq(value[name]) for name in FOUND),
        ]

        # Clock 1: row numbers. 2, 3: memory. 4: compare 24 bits at a time. 5: select.
        keys = [Signal(CamKey(), name=f"key_{clock}") for clock in (1, 2, 3)]
        running = Signal(self.LATENCY)
        m.d.sync += running.eq(running << 1 | self.start)
        for older, newer in zip([self.key, *keys], keys, strict=False):
            m.d.sync += newer.eq(older)
        hits, found, reading = [], [], []
        for way in range(self._ways):
            m.submodules[f"way_{way}"] = memory = BlockMemory(width=stored.size, depth=rows)
            row = Signal(range(rows), name=f"row_{way}")
            m.d.sync += row.eq(parities(hashing.way_hash(way, hashing.CAM_KEY_BITS, rows), self.key))
            m.d.comb += [
                memory.write_address.eq(entry.index[: len(row)]),
                memory.write_data.eq(new),
                memory.write_enable.eq(
                    self.write.valid & self.write.ready & (entry.index[len(row) :] == way)
                ),
                memory.read_address.eq(row),
            ]
            reading.append(row == entry.index[: len(row)])
            read = stored(memory.read_data)
            difference = read.key.as_value() ^ keys[-1].as_value()
            parts = [difference[at : at + 24] for at in range(0, len(difference), 24)]
            differs = Signal(len(parts) + 1, name=f"differs_{way}")
            result = Signal(stored["result"].shape, name=f"result_{way}")
            m.d.sync += [result.eq(read.result), differs[-1].eq(~read.valid)]
            m.d.sync += [differs[at].eq(part.any()) for at, part in enumerate(parts)]
            hits.append(~differs.any())
            found.append(result)
        # What a block RAM reads of a word while it is written is nobody's promise.
        m.d.comb += [self.write.ready.eq(~(running[0] & Cat(reading).any())), self.done.eq(running[-1])]
        m.d.sync += self.result.eq(0)
        for hit, result in reversed(list(zip(hits, found, strict=True))):
            with m.If(hit):
                m.d.sync += [self.result.hit.eq(1), *(self.result[name].eq(result[name]) for name in FOUND)]
        return m
