# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Block memory with an output register: the only kind of block memory the gateway uses.

A block RAM's own output register takes ECP5 paths that begin at a memory from 186 to 350 MHz, and no
synthesiser infers it; so reads take two clocks everywhere, and this module is the one place that knows how a
family spells it.
"""

from amaranth.hdl import C, Cat, ClockSignal, Instance, Module, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

ECP5 = "ecp5"
"""Value of ``platform.technology`` for which memories are built of Lattice's primitive DP16KD."""
ECP5_BLOCKS = {512: 36, 1024: 18, 2048: 9, 4096: 4, 8192: 2, 16384: 1}
"""Words of a DP16KD: bits of a word (Lattice FPGA-TN-02204, table 4)."""


class BlockMemory(wiring.Component):
    """One write port, one read port, two clocks from address to data.

    The contents are 0 after configuration; a reset leaves them as they are.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words, 2 or more; on ECP5 up to 16384.
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
        The word at the address of two enabled clocks before. A read in the clock of a write to the same word
        gives either value.
    """

    def __init__(self, *, width: int, depth: int, granularity: int | None = None):
        if depth < 2:
            raise ValueError(f"depth must be 2 or more, not {depth!r}")
        granularity = granularity or width
        if width % granularity:
            raise ValueError(f"granularity {granularity!r} does not divide width {width!r}")
        self._width, self._depth, self._granularity = width, depth, granularity
        super().__init__(
            {
                "write_address": In(range(depth)),
                "write_data": In(width),
                "write_enable": In(width // granularity),
                "read_address": In(range(depth)),
                "read_enable": In(1, init=1),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform):
        if getattr(platform, "technology", None) == ECP5:
            return self._ecp5()
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=unsigned(self._width), depth=self._depth, init=[])
        write = store.write_port(granularity=self._granularity if self._granularity < self._width else None)
        read = store.read_port()
        m.d.comb += [
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
            read.addr.eq(self.read_address),
            read.en.eq(self.read_enable),
        ]
        with m.If(self.read_enable):
            m.d.sync += self.read_data.eq(read.data)
        return m

    def _ecp5(self):
        m = Module()
        depth = next((depth for depth in ECP5_BLOCKS if depth >= self._depth), None)
        if depth is None:
            raise ValueError(f"depth must be up to {max(ECP5_BLOCKS)} on ECP5, not {self._depth!r}")
        width = ECP5_BLOCKS[depth]
        for lane, enable in enumerate(self.write_enable):
            end = (lane + 1) * self._granularity
            for low in range(lane * self._granularity, end, width):
                bits = slice(low, min(low + width, end))
                read_data = Signal(width)
                m.submodules[f"block_{low}"] = _dp16kd(
                    width,
                    ClockSignal(),
                    write=(self.write_address, self.write_data[bits], enable),
                    read=(self.read_address, read_data, self.read_enable),
                )
                m.d.comb += self.read_data[bits].eq(read_data)
        return m


def _dp16kd(width, clock, *, write, read):
    """A DP16KD with port A for writes and port B for reads, output registers on.

    With 36 bits it becomes a memory of half the ports: the upper 18 bits of a word use data inputs of port B
    and outputs of port B, the lower ones those of port A.
    """
    write_address, write_data, write_enable = write
    read_address, read_data, read_enable = read
    # Addresses count bits of 16 kbit without parity; with 18 and 36 bits the lowest lines enable bytes.
    shift = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[width]
    bytes_enabled = {36: write_enable.replicate(4), 18: write_enable.replicate(2)}.get(width, C(0, 0))
    address_a = Cat(bytes_enabled, C(0, shift - len(bytes_enabled)), write_address, C(0, 14))
    address_b = Cat(C(0, shift), read_address, C(0, 14))
    ports = {f"i_ADA{n}": address_a[n] for n in range(14)} | {f"i_ADB{n}": address_b[n] for n in range(14)}
    # What is not connected, linters report: data inputs that have none are 0, outputs end in nothing.
    idle = iter(Signal(36, name="idle"))
    ports |= {f"i_DI{port}{n}": C(0, 1) for port in "AB" for n in range(18)}
    ports |= {f"o_DO{port}{n}": next(idle) for port in "AB" for n in range(18)}
    for n, bit in enumerate(write_data):
        ports[f"i_DI{'AB'[n // 18]}{n % 18}"] = bit
    for n, bit in enumerate(read_data):
        ports[f"o_DO{'AB'[n // 18] if width == 36 else 'B'}{n % 18}"] = bit
    for port in "AB":
        ports |= {
            f"i_CLK{port}": clock,
            f"i_RST{port}": C(0),
            f"i_OCE{port}": read_enable,
            f"p_DATA_WIDTH_{port}": width,
            f"p_REGMODE_{port}": "OUTREG",
            f"p_CSDECODE_{port}": "0b000",
            f"p_WRITEMODE_{port}": "NORMAL",
        }
        ports |= {f"i_CS{port}{n}": C(0) for n in range(3)}
    return Instance(
        "DP16KD",
        i_CEA=C(1),
        i_WEA=C(1) if width == 36 else write_enable,
        i_CEB=read_enable,
        i_WEB=C(0),
        p_GSR="DISABLED",
        p_RESETMODE="SYNC",
        p_ASYNC_RESET_RELEASE="SYNC",
        **ports,
    )
