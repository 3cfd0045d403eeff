# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The enumerations of the RDL files, for gateware and host.

Made of them by ``make registers``: change them there.
"""

from enum import IntEnum


class Direction(IntEnum):
    """``direction_e``"""

    INBOUND = 0
    """Decrypt and verify."""
    OUTBOUND = 1
    """Encrypt and sign."""


class Mode(IntEnum):
    """``mode_e``"""

    TRANSPORT = 0
    TUNNEL = 1


class Df(IntEnum):
    """``df_e``"""

    CLEAR = 0
    """Outer header without Don't Fragment."""
    SET = 1
    """Outer header with Don't Fragment."""
    COPY = 2
    """As in the inner header (RFC 4301 8.1)."""


class Cipher(IntEnum):
    """``cipher_e``"""

    NULL = 0
    """No encryption (RFC 2410)."""
    AES_CBC = 1
    """AES-CBC (RFC 3602)."""
    AES_GCM = 2
    """AES-GCM, 16-byte ICV (RFC 4106)."""


class KeySize(IntEnum):
    """``key_size_e``"""

    AES128 = 0
    AES192 = 1
    AES256 = 2


class Auth(IntEnum):
    """``auth_e``"""

    NONE = 0
    """None beside the cipher's own."""
    HMAC_SHA1_96 = 1
    """HMAC-SHA-1-96 (RFC 2404)."""
    HMAC_SHA256_128 = 2
    """HMAC-SHA-256-128 (RFC 4868)."""


class Action(IntEnum):
    """``action_e``"""

    PROTECT = 0
    """Encrypt with the SA."""
    BYPASS = 1
    """Forward in the clear."""
    DISCARD = 2
    """Drop."""
    PUNT = 3
    """To the control element."""


class Port(IntEnum):
    """``port_e``"""

    NETWORK = 0
    """The untrusted side."""
    SERVER = 1
    """The trusted side."""
    CE = 2
    """The control element: inject on the way in, punt on the way out."""
    RECIRCULATE = 3
    """Back to the classifier, for one more layer or an inner route."""


class Reason(IntEnum):
    """``reason_e``"""

    NONE = 0
    """No reason: the packet goes its way."""
    MALFORMED = 1
    """Truncated, inconsistent lengths, bad IPv4 header checksum, or ESP text that cannot be whole
    blocks."""
    BAD_FRAME = 2
    """The port marked the frame as damaged (AXI4-Stream tuser on its last beat)."""
    OVERSIZE = 3
    """Longer than the largest frame the gateway stores."""
    QUEUE_FULL = 4
    """A queue had no room: of a port, of a DFE, or of the way back into the classifier. What goes
    to the control element has reasons of its own (`punt_rate` and the like)."""
    NO_DFE = 5
    """No DFE is enabled and healthy."""
    POLICY = 6
    """A rule discards it, its source may not speak in the clear, or it does not match its SA's
    selectors (RFC 4301)."""
    ICV = 7
    """The integrity check value is wrong (RFC 4303 3.4.4)."""
    PADDING = 8
    """Verified, but padding, pad length or next header is wrong (RFC 4303 2.4)."""
    REPLAY = 9
    """Sequence number seen before, left of the window, or zero (RFC 4303 3.4.3)."""
    SEQUENCE_OVERFLOW = 10
    """An outbound SA has used its last sequence number (RFC 4303 3.3.3)."""
    LIFETIME = 11
    """The SA's hard byte or packet lifetime is over (RFC 4301 4.4.2.1)."""
    NO_SA = 12
    """No SA for this SPI, and the setting says to drop such packets."""
    RESERVED_SPI = 13
    """SPI 0 to 255 (RFC 4303 2.1)."""
    TTL = 14
    """Time to live would reach zero."""
    NESTED = 15
    """More layers of IPsec than the limit."""
    PUNT_RATE = 16
    """A packet for the control element, of the class `rest`, beyond the rate or the room of its
    class."""
    DUMMY = 17
    """ESP dummy packet, next header 59 (RFC 4303 2.6)."""
    OTHER_STATION = 18
    """Its Ethernet destination is another station's, and the port takes only its own frames."""
    GUARD = 19
    """It would leave at the network port although no DFE protected it, no rule lets it leave there
    in the clear, and the control element did not send it there. No fault of a peer: a fault in the
    gateway or in its tables."""
    MARTIAN = 20
    """A source or destination that is never forwarded (RFC 1812 5.3.7), or a unicast packet in a
    link-layer broadcast or multicast (RFC 1812 5.3.4)."""
    VLAN = 21
    """Its 802.1Q tag is not that of the port's VLAN, or it has none where the port has one."""
    IKE_RATE = 28
    """The same, of the class `ike`."""
    LINK_RATE = 29
    """The same, of the class `link`."""
    EXCEPTION_RATE = 30
    """The same, of the class `exception`."""
    SPI_RATE = 31
    """The same, of the class `spi`; or one with that destination and SPI came up less than
    `miss_interval` ago."""
    UNKNOWN_SPI = 32
    """The CAM has no entry for {destination, protocol, SPI}."""
    NO_RULE = 33
    """No rule matches the clear packet."""
    SA_ABSENT = 34
    """The DFE has no valid SA, or one with another SPI, direction or generation, where the CAM or
    rule points."""
    IKE = 35
    """UDP to port 500, or to port 4500 with the non-ESP marker (RFC 7296, 3948), at one of the
    gateway's own addresses."""
    NATT = 36
    """UDP-encapsulated ESP or NAT keep-alive (RFC 3948), at one of the gateway's own addresses."""
    AH = 37
    """IP protocol 51 (RFC 4302)."""
    IPV6 = 38
    """IPv6."""
    FRAGMENT = 39
    """An IPv4 fragment: the control element reassembles."""
    NOT_IP = 40
    """Neither IPv4 nor IPv6, such as ARP."""
    DFE_DOWN = 41
    """The entry's DFE is disabled or unhealthy."""
    RULE = 42
    """A rule says punt."""
    TTL_EXPIRED = 43
    """Time to live would reach zero in a clear packet: the control element answers."""
    TOO_BIG = 44
    """The packet would exceed the SA's MTU after encapsulation."""
    NEIGHBOUR = 45
    """IPv6 neighbour or router discovery: ICMPv6 133 to 137 with hop limit 255 (RFC 4861)."""
    SOFT_LIFETIME = 56
    """The SA's soft byte or packet lifetime is over: rekey."""
    DFE_STALLED = 57
    """A DFE that has packets has finished none for `patience` clocks, and is now unhealthy."""


class Table(IntEnum):
    """``table_e``"""

    CAM = 0
    RULE = 1
    ROUTE = 2
    SA = 3
    """One SAD a DFE."""
    SOURCE = 4
    """Sources that may speak in the clear, one list a DFE."""


class Balance(IntEnum):
    """``balance_e``"""

    ROUND_ROBIN = 0
    WEIGHTED = 1
    """Fixed rotation: DFE n gets weight n packets in a turn."""
    LEAST_LOADED = 2
    """The DFE whose queue is shortest."""
    FLOW_HASH = 3
    """By a hash of the packet's addresses, protocol and ports or SPI."""


class PuntClass(IntEnum):
    """``punt_class_e``"""

    IKE = 0
    """IKE to one of the gateway's own addresses, unfragmented."""
    LINK = 1
    """ARP and other frames that are not IP, and neighbour discovery."""
    EXCEPTION = 2
    """Packets of SAs that are known: `sa_absent`, `dfe_down`, `ttl_expired`, `too_big`, `natt`,
    `ah`."""
    SPI = 3
    """Unknown SPIs."""
    REST = 4
    """Everything else."""


TRAITS = {
    Reason.NONE: ("none",),
    Reason.MALFORMED: ("drop", "audited", "junk"),
    Reason.BAD_FRAME: ("drop",),
    Reason.OVERSIZE: ("drop",),
    Reason.QUEUE_FULL: ("drop",),
    Reason.NO_DFE: ("drop",),
    Reason.POLICY: ("drop", "audited", "junk"),
    Reason.ICV: ("drop", "audited", "junk"),
    Reason.PADDING: ("drop", "audited", "junk"),
    Reason.REPLAY: ("drop", "audited", "junk"),
    Reason.SEQUENCE_OVERFLOW: ("drop", "audited", "ending"),
    Reason.LIFETIME: ("drop", "audited", "ending"),
    Reason.NO_SA: ("drop", "audited", "junk"),
    Reason.RESERVED_SPI: ("drop", "audited", "junk"),
    Reason.TTL: ("drop",),
    Reason.NESTED: ("drop",),
    Reason.PUNT_RATE: ("drop", "refused", "rest"),
    Reason.DUMMY: ("drop",),
    Reason.OTHER_STATION: ("drop",),
    Reason.GUARD: ("drop", "audited"),
    Reason.MARTIAN: ("drop",),
    Reason.VLAN: ("drop",),
    Reason.IKE_RATE: ("drop", "refused", "ike"),
    Reason.LINK_RATE: ("drop", "refused", "link"),
    Reason.EXCEPTION_RATE: ("drop", "refused", "exception"),
    Reason.SPI_RATE: ("drop", "refused", "spi"),
    Reason.UNKNOWN_SPI: ("punt", "spi"),
    Reason.NO_RULE: ("punt", "rest"),
    Reason.SA_ABSENT: ("punt", "exception"),
    Reason.IKE: ("punt", "ike"),
    Reason.NATT: ("punt", "exception"),
    Reason.AH: ("punt", "exception"),
    Reason.IPV6: ("punt", "rest"),
    Reason.FRAGMENT: ("punt", "rest"),
    Reason.NOT_IP: ("punt", "link"),
    Reason.DFE_DOWN: ("punt", "exception"),
    Reason.RULE: ("punt", "rest"),
    Reason.TTL_EXPIRED: ("punt", "exception"),
    Reason.TOO_BIG: ("punt", "exception"),
    Reason.NEIGHBOUR: ("punt", "link"),
    Reason.SOFT_LIFETIME: ("told",),
    Reason.DFE_STALLED: ("told",),
}
"""What ``entries.rdl`` says in the names of reasons."""
