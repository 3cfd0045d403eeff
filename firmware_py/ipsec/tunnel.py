# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a tunnel puts around a packet and takes from it (RFC 4301 5.1.2), with congestion marks as RFC 6040
has them.
"""

from collections.abc import Collection

from spigate.firmware_py.ipsec.packet import Ip, Refused, ipv4_header, ipv6_header, rewrite
from spigate.firmware_py.ipsec.sa import Sa
from spigate.hdl.contract.enums import Df, Reason

NEXT_HEADERS = {4: 4, 6: 41}
"""By the version of the IP packet inside."""
HEADER_BYTES = {4: 20, 6: 40}
NOT_ECT, ECT_1, ECT_0, ECN_CE = range(4)
"""The ECN field (RFC 3168 5)."""


def keeps_whole(sa: Sa, inner: Ip) -> bool:
    """Whether the packet outside may not be fragmented on its way."""
    return sa.df == Df.SET or (sa.df == Df.COPY and inner.dont_fragment)


def header(sa: Sa, inner: Ip, number: int, identification: int | None = None) -> bytes:
    """The IP header outside, without lengths, which who fills it puts right. ``identification``: IPv4's;
    None: of the sequence number ``number``, and 0 where DF is set."""
    tos = inner.tos if sa.copy_tos else sa.outer_tos
    if sa.source.version == 6:
        return ipv6_header(sa.source, sa.destination, 0, 0, tos=tos, ttl=sa.outer_ttl)
    whole = keeps_whole(sa, inner)
    if identification is None:
        identification = 0 if whole else number & 0xFFFF
    return ipv4_header(
        sa.source,
        sa.destination,
        0,
        0,
        tos=tos,
        ttl=sa.outer_ttl,
        dont_fragment=whole,
        identification=identification,
    )


def uncover(sa: Sa, outer: Ip, payload: bytes, next_header: int, versions: Collection[int]) -> bytes:
    """The packet inside, without what follows it (RFC 4303 2.7).

    Parameters
    ----------
    versions : collection of int
        IP versions that the SA may carry.

    Raises
    ------
    Refused
        PADDING: the next header is none of these. MALFORMED: the IP header is wrong, or cannot carry the
        congestion mark of the one outside (RFC 6040 4.2).
    """
    version = next((version for version, code in NEXT_HEADERS.items() if code == next_header), None)
    if version not in versions:
        raise Refused(Reason.PADDING)
    inner = Ip.parse(payload, version)
    plain = payload[: inner.total_length]
    mark = _mark(inner.tos & 3, outer.tos & 3) if sa.copy_tos else inner.tos & 3
    if mark != inner.tos & 3:
        plain = rewrite(plain, inner.header_bytes, tos=inner.tos & 0xFC | mark)
    return plain


def _mark(inner: int, outer: int) -> int:
    """The congestion mark of a packet that leaves its tunnel (RFC 6040 4.2, figure 4)."""
    if outer == ECN_CE and inner == NOT_ECT:
        raise Refused(Reason.MALFORMED)
    return outer if outer == ECN_CE or (inner, outer) == (ECT_0, ECT_1) else inner
