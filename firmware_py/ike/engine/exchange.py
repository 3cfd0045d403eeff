# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What every exchange has (RFC 7296 1.2 to 1.4): a request and what becomes of its response."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from spigate.firmware_py.ike.engine.holdings import Holdings
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import Notify, Payload
from spigate.firmware_py.ike.wire.registry import FIRST_STATUS, ExchangeType, NotifyType, label

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.context import Context
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

Sent = Callable[[Message, tuple[bytes, ...]], None]
"""Called with a message and its datagrams, once they are made."""


class Exchange(ABC):
    """One exchange that this side begins on an IKE SA, ``ike``: made, queued, asked for its request when
    its turn comes, and given the response.

    What it reserves is in ``held``, which it has from its request on, and which is released when it is
    over, whichever way; what is to outlive it is taken out before, by a child SA or by the exchange that
    follows.
    """

    exchange_type: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    _held: Holdings | None = None

    @property
    def held(self) -> Holdings:
        assert self._held is not None
        return self._held

    def begin(self, context: "Context") -> None:
        """Its turn has come: it can reserve something, unless it goes on with what another one held."""
        if self._held is None:
            self._held = Holdings(context)

    def pass_on(self, successor: "Exchange") -> None:
        """``successor`` goes on with what this one holds."""
        successor._held = self.held.move()

    def over(self) -> None:
        """It has ended. May be called again."""
        if self._held is not None:
            self._held.release()

    @abstractmethod
    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload] | None:
        """The request's payloads; None: there is nothing to ask any more."""

    def sent(self, ike: "IkeSa", message: Message, datagrams: tuple[bytes, ...]) -> None:  # noqa: B027
        """The request is on its way as ``datagrams``; most do not care."""

    def received(self, datagram: bytes) -> None:  # noqa: B027
        """A response came in the clear, as ``datagram``; most do not care."""

    @abstractmethod
    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        """The peer's answer, opened.

        Raises
        ------
        PeerError
            It is not what an answer must be: the IKE SA ends.
        """

    def abandoned(self, ike: "IkeSa", now: float) -> None:  # noqa: B027
        """There will be no response: the IKE SA is gone; most do not care."""


@dataclass(frozen=True)
class Reply:
    """What is answered to a request, and what is done when the answer is on its way."""

    payloads: tuple[Payload, ...] = ()
    then: Sent | None = None


def error_in(message: Message) -> Notify | None:
    """The first notify of ``message`` that says an error."""
    return next((each for each in message.all(Notify) if each.notify_type < FIRST_STATUS), None)


def says(notify: Notify) -> str:
    """An error for the log."""
    return label(NotifyType, notify.notify_type)


def refusal(notify_type: NotifyType) -> Reply:
    """An answer that is nothing but a notify."""
    return Reply((Notify(notify_type),))
