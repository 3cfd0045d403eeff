# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What an endpoint wants done, in order: datagrams to send, SAs and policies to set, things to tell the
operator.

Everything that :class:`~spigate.firmware_py.ike.engine.endpoint.Endpoint` wants of the world around is one
of these; whoever drives it does them in the order in which they come. An inbound SA comes before the
datagram that lets the peer use it.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from spigate.firmware_py.ipsec.policy import Policy
from spigate.firmware_py.ipsec.sa import Address, Sa

IKE_PORT, NAT_PORT = 500, 4500
MAX_TEXT = 1024
"""Characters of an event's text."""


@dataclass(frozen=True)
class Socket:
    """One end of a datagram's way."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Datagram:
    """To be sent in UDP. ``data`` is the whole payload, non-ESP marker included."""

    source: Socket
    destination: Socket
    data: bytes


@dataclass(frozen=True)
class InstallSa:
    """``sa`` is to be used from now on, for the child SA ``child`` (configured name) of the peer ``peer``."""

    peer: str
    child: str
    sa: Sa


@dataclass(frozen=True)
class RemoveSa:
    """``sa``, as installed, is to be forgotten."""

    sa: Sa


@dataclass(frozen=True)
class MoveSa:
    """``old`` has new addresses or UDP ports outside, those of ``new``. Everything else stays as it stands:
    sequence number, window and counters go on (an outbound SA that started again would use a number
    twice)."""

    old: Sa
    new: Sa


@dataclass(frozen=True)
class AddPolicy:
    """``policy`` protects what was negotiated; its templates name the SAs by reqid."""

    policy: Policy


@dataclass(frozen=True)
class RemovePolicy:
    """The last pair of SAs behind ``policy`` is gone."""

    policy: Policy


class EventKind(StrEnum):
    """What happened. SA_*: to an SA that is keyed by hand. INTERNAL: something that nobody expected, which
    ended one IKE SA at most."""

    IKE_UP = "ike-up"
    IKE_FAILED = "ike-failed"
    IKE_REKEYED = "ike-rekeyed"
    IKE_DOWN = "ike-down"
    PEER_DEAD = "peer-dead"
    PEER_MOVED = "peer-moved"
    CHILD_UP = "child-up"
    CHILD_FAILED = "child-failed"
    CHILD_REKEYED = "child-rekeyed"
    CHILD_DOWN = "child-down"
    SA_UP = "sa-up"
    SA_WORN = "sa-worn"
    SA_DOWN = "sa-down"
    SA_FAILED = "sa-failed"
    UNDER_LOAD = "under-load"
    REFUSED = "refused"
    INTERNAL = "internal-error"


@dataclass(frozen=True)
class Event:
    """For the operator's log. Nothing secret.

    Members
    -------
    kind : EventKind
    peer : str
        Configured name, or the address where it is not known yet; empty where no peer is concerned.
    text : str
        One sentence of what and why, cut at :data:`MAX_TEXT` characters: much of it may be a stranger's.
    ike : str
        The IKE SA: its SPIs in hexadecimal, joined by a hyphen.
    child : str
        Configured name, where one is concerned; of an SA that is keyed by hand its name.
    count : int
        So many events this one stands for.
    """

    kind: EventKind
    peer: str
    text: str
    ike: str = ""
    child: str = ""
    count: int = 1

    def __post_init__(self) -> None:
        if len(self.text) > MAX_TEXT:
            object.__setattr__(self, "text", self.text[: MAX_TEXT - 4] + " ...")


@dataclass(frozen=True)
class KeyLog:
    """A line of Wireshark's ``ikev2_decryption_table`` for an IKE SA: secret, and only where
    ``Settings.key_log`` asks for it."""

    line: str = field(repr=False)


Output = Datagram | InstallSa | RemoveSa | MoveSa | AddPolicy | RemovePolicy | Event | KeyLog
