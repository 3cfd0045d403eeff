"""Block memory with an output register: the only kind of block memory the gateway uses.

A block RAM's own output register takes ECP5 paths that begin at a memory from 186 to 350 MHz, and no synthesiser infers it; so
reads take two clocks everywhere, and this module is the one place that knows how a family spells it.
"""
from amaranth.hdl import Module, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class BlockMemory(wiring.Component):
    """One write port, one read port, two clocks from address to data.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words, 2 or more.
    granularity : int or None
        Bits that each bit of ``write_enable`` writes; must divide ``width``. None: the whole word.

    Members
    -------
    write_address : In(range(depth))
    write_data : In(width)
    write_enable : In(width // granularity)
    read_address : In(range(depth))
        Sampled in every clock with ``read_enable``.
    read_enable : In(1), init 1
        Where it is 0, both stages keep what they hold.
    read_data : Out(width)
        The word at the address of two enabled clocks before. A read in the clock of a write to the same word gives either value.
    """

    def __init__(self, *, width: int, depth: int, granularity: int | None = None):
        if depth < 2:
            raise ValueError(f"depth must be 2 or more, not {depth!r}")
        granularity = granularity or width
        if width % granularity:
            raise ValueError(f"granularity {granularity!r} does not divide width {width!r}")
        self._width, self._depth, self._granularity = width, depth, granularity
        super().__init__({
            "write_address": In(range(depth)), "write_data": In(width), "write_enable": In(width // granularity),
            "read_address": In(range(depth)), "read_enable": In(1, init=1), "read_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=unsigned(self._width), depth=self._depth, init=[])
        write = store.write_port(granularity=self._granularity if self._granularity < self._width else None)
        read = store.read_port()
        m.d.comb += [
            write.addr.eq(self.write_address), write.data.eq(self.write_data), write.en.eq(self.write_enable),
            read.addr.eq(self.read_address), read.en.eq(self.read_enable),
        ]
        with m.If(self.read_enable):
            m.d.sync += self.read_data.eq(read.data)
        return m
