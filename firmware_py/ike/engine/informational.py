# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""INFORMATIONAL (RFC 7296 1.4): deletion of child and IKE SAs, and the question whether the peer lives."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.engine.children import ChildSa, ChildState
from spigate.firmware_py.ike.engine.exchange import Exchange, Reply
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import Delete, Notify, Payload
from spigate.firmware_py.ike.wire.registry import NotifyType, ProtocolId

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

MAX_STILLBORN = 16
"""An exchange makes one child SA, so that more than a few are never meant."""


class Liveness(Exchange):
    """An empty request: any answer will do."""

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload]:
        return ()

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        pass


class DeleteChild(Exchange):
    """Ends a child SA, when the peer has answered or cannot any more."""

    def __init__(self, child: ChildSa, why: str):
        self.child = child
        self._why = why

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload] | None:
        child = self.child
        if child.state == ChildState.GONE:
            return None
        child.state = ChildState.DELETING
        self.held.at_release(lambda: child.remove(ike.context.boundary.now, self._why))
        return (Delete(child.config.protocol, (child.inbound.spi.to_bytes(4),)),)

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        pass  # whatever it says, the child goes with the exchange


class DeleteSpi(Exchange):
    """Ends a child SA that the peer believes in, and that is no more, or never was."""

    def __init__(self, protocol: ProtocolId, spi: int):
        self._payload = Delete(protocol, (spi.to_bytes(4),))

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload]:
        return (self._payload,)

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        pass


class DeleteIke(Exchange):
    """Ends the IKE SA, and tells an error with it where there is one."""

    def __init__(self, why: str, error: NotifyType | None = None):
        self._why = why
        self._error = error

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload]:
        return (Delete(ProtocolId.IKE),) if self._error is None else (Notify(self._error),)

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        kind = EventKind.IKE_DOWN if self._error is None else EventKind.IKE_FAILED
        ike.close(now, kind, self._why)


def answer(ike: "IkeSa", now: float, message: Message) -> Reply:
    """A peer's INFORMATIONAL: deletions, errors, or nothing at all."""
    deletes = message.all(Delete)
    if any(each.protocol == ProtocolId.IKE for each in deletes):
        return Reply((), lambda answer, datagrams: _deleted(ike, now))
    if message.notify(NotifyType.AUTHENTICATION_FAILED) is not None:
        return Reply(
            (),
            lambda answer, datagrams: ike.close(
                now, EventKind.IKE_FAILED, "the peer says that authentication failed", linger=True
            ),
        )
    theirs = (
        {(child.config.protocol, child.outbound.spi.to_bytes(4)): child for child in ike.children.values()}
        if deletes
        else {}
    )
    confirmed: dict[ProtocolId, list[bytes]] = {}
    for delete in deletes:
        for spi in delete.spis:
            child = theirs.pop((delete.protocol, spi), None)
            if child is None:
                if ike.active is not None and len(ike.stillborn) < MAX_STILLBORN:
                    ike.stillborn.add((delete.protocol, spi))
                continue
            if child.state != ChildState.DELETING:  # otherwise it was told already (RFC 7296 1.4.1)
                confirmed.setdefault(delete.protocol, []).append(child.inbound.spi.to_bytes(4))
            child.remove(now, "the peer deleted it")
    return Reply(tuple(Delete(protocol, tuple(spis)) for protocol, spis in confirmed.items()))


def _deleted(ike: "IkeSa", now: float) -> None:
    """The peer ended the IKE SA: if its own rekeying of it is through, that one's successor has the
    children.
    """
    if ike.rival is not None:
        ike.hand_over(ike.rival[0], now)
    ike.close(now, EventKind.IKE_DOWN, "the peer deleted it", linger=True)
