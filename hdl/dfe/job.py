# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What dispatch, lanes and commit of a DFE say to each other about a packet."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.csr import layout
from spigate.hdl.net.descriptor import MAX_DFES, PacketInfo
from spigate.hdl.net.packet import BUFFER_BYTES

BUFFERS = 8
"""Buffers of a lane. A small packet is in an idle DFE for about 95 clocks and its crypto; this many let the
next one follow after 15.
"""
BUFFER_WORDS = BUFFER_BYTES // 4
STORE_BYTES = 16
"""Bytes of a buffer that are read or written in a clock, whatever the width of a beat: the engine,
inspection and what leaves share one read port.
"""
ROWS = 10
"""Rows of an SA that are copied to the lane's context RAM: 0 (``control``) to 9 (``auth_3``)."""


def check_sizes(*, lanes: int = 1, sa_entries: int = 2, sources: int = 1, dfes: int = 1) -> None:
    """Raises ValueError where a DFE cannot have these; the message names size, range and value."""
    if not 1 <= lanes <= 8:
        raise ValueError(f"lanes must be 1 to 8, not {lanes!r}")
    if sa_entries < 2 or sa_entries & sa_entries - 1:
        raise ValueError(f"sa_entries must be a power of two, 2 or more, not {sa_entries!r}")
    if sources < 1:
        raise ValueError(f"sources must be 1 or more, not {sources!r}")
    if not 1 <= dfes <= MAX_DFES:
        raise ValueError(f"dfes must be 1 to {MAX_DFES}, not {dfes!r}")


class LaneJob(data.StructLayout):
    """One packet in a buffer of a lane. Word addresses count 32-bit words from the buffer's start.

    Members
    -------
    info : PacketInfo
        The CFE's, with ``verdict`` and ``reason`` as dispatch left them: DROP, PUNT, BYPASS, DECRYPT or
        ENCRYPT. What is not DECRYPT or ENCRYPT does not see the engine. ``ttl`` is the CFE's too: in the
        buffer, it has been counted down for BYPASS and ENCRYPT where the route says so.
    control, tunnel : rows of the SA
        For DECRYPT and ENCRYPT.
    sequence : unsigned(64)
        ENCRYPT: the number taken. DECRYPT: the packet's, upper half 0.
    esp : range(BUFFER_WORDS)
        Word of the ESP header (see the layouts in docs/gateware.md).
    text_bytes : unsigned(12)
        Bytes of text: the cipher text without IV and ICV, or the plain text with its trailer; a multiple of
        4.
    """

    def __init__(self):
        super().__init__(
            {
                "info": PacketInfo(),
                "control": layout.row("sa", "control"),
                "tunnel": layout.row("sa", "tunnel"),
                "sequence": 64,
                "esp": range(BUFFER_WORDS),
                "text_bytes": 12,
            }
        )


class EspText(data.StructLayout):
    """What the engine works on in a buffer: ESP header, IV, text and ICV, one behind the other.

    Members
    -------
    crypto : unsigned(1)
        The packet is for the engine; the rest means something only then.
    encrypt : unsigned(1)
    esp : range(BUFFER_WORDS)
        Word of the ESP header.
    iv_words : unsigned(3)
        0, 2 or 4.
    text_words : range(BUFFER_WORDS)
        1 or more.
    icv_words : unsigned(3)
        0, 3 or 4.
    """

    def __init__(self):
        super().__init__(
            {
                "crypto": 1,
                "encrypt": 1,
                "esp": range(BUFFER_WORDS),
                "iv_words": 3,
                "text_words": range(BUFFER_WORDS),
                "icv_words": 3,
            }
        )


class Done(data.StructLayout):
    """A buffer whose packet is ready for commit. ``ok`` is the engine's verdict (1 where the engine was not
    asked).
    """

    def __init__(self):
        super().__init__({"job": LaneJob(), "buffer": range(BUFFERS), "ok": 1})


class BufferRead(wiring.Signature):
    """Commit's read port into a lane's packet store, seen from commit.

    Members
    -------
    enable : Out(1)
        Read in this clock; ``address`` and ``buffer`` say what. The engine's own reads have precedence: a
        read counts in a clock with ``ready``.
    ready : In(1)
    buffer, address : Out
        The buffer, and the word address of the first word wanted.
    valid : In(1)
        A clock with data, a fixed number of clocks after the read, in order.
    data : In(8 * STORE_BYTES)
        ``STORE_BYTES`` bytes from that word on, in wire order; words past the buffer's end are undefined.
    """

    def __init__(self):
        super().__init__(
            {
                "enable": Out(1),
                "ready": In(1),
                "buffer": Out(range(BUFFERS)),
                "address": Out(range(BUFFER_WORDS)),
                "valid": In(1),
                "data": In(8 * STORE_BYTES),
            }
        )


class RowRead(wiring.Signature):
    """Commit's read port into a lane's context RAM: a row of the SA of the packet in ``buffer``; as
    :class:`BufferRead`.
    """

    def __init__(self):
        super().__init__(
            {
                "enable": Out(1),
                "ready": In(1),
                "buffer": Out(range(BUFFERS)),
                "row": Out(range(ROWS)),
                "valid": In(1),
                "data": In(layout.ROW_BITS),
            }
        )


class LanePort(wiring.Signature):
    """What a lane offers to commit, seen from the lane.

    Members
    -------
    done : Out(stream of Done)
        Packets ready for commit, in the order in which the lane got them. A buffer stays as it is until
        ``release``, so it may be read before and after the item is taken.
    read : In(BufferRead)
        Data come 4 clocks after the read.
    rows : In(RowRead)
        Data come 2 clocks after the read.
    release : In(1)
        A strobe: the oldest buffer not released yet, whose Done has been taken, is free. Its reads must
        have been answered.
    """

    def __init__(self):
        super().__init__(
            {
                "done": Out(stream.Signature(Done())),
                "read": In(BufferRead()),
                "rows": In(RowRead()),
                "release": In(1),
            }
        )
