# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The one packet type of the design, and the order of its bytes and bits.

A packet is a sequence of beats on a stream. **Byte 0 of the wire is in bits 7:0 of the first beat**, byte 1
in bits 15:8, and so on; the next beat carries the following bytes. A multi-byte field of a protocol header
is big-endian on the wire, so that its most significant byte has the lowest byte number; :func:`swap_bytes`
turns such a field into a number.

Inside the gateway every frame has :data:`ALIGN` bytes (zero) in front of its Ethernet header, as Linux does
with ``NET_IP_ALIGN``: so the IP header begins on a 32-bit boundary, with and without an 802.1Q tag, and all
that IPsec does to a packet moves whole 32-bit words. Ports add these bytes on the way in and take them off on
the way out.
"""

from amaranth.hdl import Cat, Value, ValueLike
from amaranth.lib import data, stream

from spigate.hdl.contract.parameters import PARAMETERS

ALIGN = 2
"""Bytes in front of the Ethernet header, inside the gateway."""
MAX_FRAME = 1920
"""Longest frame that the gateway takes, in bytes, :data:`ALIGN` included, Ethernet frame check sequence not.
"""
BUFFER_BYTES = 2048
"""What a packet may grow to on its way through a DFE: :data:`MAX_FRAME` and room for the headers of a tunnel.
"""
BEAT_BYTES = tuple(PARAMETERS["beat_bytes"].allowed)
"""Supported widths of a beat."""


class Beat(data.StructLayout):
    """One beat of a packet.

    Parameters
    ----------
    beat_bytes : int
        Width of a beat in bytes, one of :data:`BEAT_BYTES`.

    Members
    -------
    data : unsigned(8 * beat_bytes)
        Bytes of the packet, in wire order from the low bits up.
    last : unsigned(1)
        The packet ends with this beat.
    abort : unsigned(1)
        Only with ``last``: the packet ends here and must vanish, with all that was taken of it.
    count : range(beat_bytes + 1)
        Valid bytes in the beat: ``beat_bytes`` but for the last beat, where it is 1 to ``beat_bytes``.
        Bytes beyond are undefined inside the gateway and zero where it sends. With ``abort`` it means
        nothing.
    """

    def __init__(self, beat_bytes: int):
        if beat_bytes not in BEAT_BYTES:
            raise ValueError(f"beat_bytes must be one of {BEAT_BYTES}, not {beat_bytes!r}")
        super().__init__({"data": 8 * beat_bytes, "last": 1, "abort": 1, "count": range(beat_bytes + 1)})


def packets(beat_bytes: int) -> stream.Signature:
    """A stream of packets: :class:`Beat` after :class:`Beat`, under the rules of
    :mod:`amaranth.lib.stream`.
    """
    return stream.Signature(Beat(beat_bytes))


def swap_bytes(value: ValueLike) -> Value:
    """The big-endian field ``value``, whose first byte on the wire is in its low bits, as a number."""
    value = Value.cast(value)
    if len(value) % 8:
        raise ValueError(f"A field must be whole bytes, not {len(value)} bits")
    return Cat(value[at : at + 8] for at in reversed(range(0, len(value), 8)))
