# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Exchanges that make an SA with keys of its own (RFC 7296 1.3), from the key exchange's side.

Additional key exchanges (RFC 9370 2.2.4) follow in IKE_FOLLOWUP_KE, one method each, before anything is made.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from spigate.firmware_py.ike.crypto import key_exchange
from spigate.firmware_py.ike.crypto.proposals import Suite
from spigate.firmware_py.ike.engine.exchange import Exchange, Reply, Sent, error_in, refusal
from spigate.firmware_py.ike.engine.holdings import Holdings
from spigate.firmware_py.ike.wire.errors import InvalidSyntax, PeerError
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import KeyExchange, Nonce, Notify, Payload
from spigate.firmware_py.ike.wire.registry import ExchangeType, Ke, NotifyType

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.children import ChildSa
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

NONCE_BYTES = 32
TRIES = 8
"""How often an exchange that the peer cannot do just now is tried."""
RETRY_SECONDS = 1.0
FOLLOW_UP_SECONDS = 180.0
"""So long a peer has for the next additional key exchange: longer than any repeats a request."""


class Creating(Exchange):
    """An exchange that makes an SA with new keys. Subclasses say which.

    Parameters
    ----------
    group : int or None
        Method of the first key exchange; None: the first that is offered.
    tries : int
        How often it may still be put off by the peer.
    """

    exchange_type: ClassVar[ExchangeType] = ExchangeType.CREATE_CHILD_SA

    def __init__(self, *, group: int | None = None, tries: int = TRIES):
        self.group = group
        self.tries = tries
        self.initiating: key_exchange.Initiating | None = None
        self.ni = b""
        self.nr = b""

    @abstractmethod
    def again(self, *, group: int | None = None, tries: int) -> "Creating":
        """The same once more."""

    @abstractmethod
    def groups(self) -> set[int]:
        """Methods that were offered."""

    @abstractmethod
    def accept(self, ike: "IkeSa", message: Message) -> Suite:
        """Takes the answer, except for its keys. Raises PeerError."""

    @abstractmethod
    def finish(self, ike: "IkeSa", now: float, secrets: list[bytes]) -> None:
        """All key exchanges are through."""

    @abstractmethod
    def refused(self, ike: "IkeSa", now: float, error: Notify) -> None:
        """The peer does not want it, now or ever."""

    @abstractmethod
    def unacceptable(self, ike: "IkeSa", now: float, error: PeerError) -> None:
        """The peer believes that there is an SA now, and it is not as it was offered."""

    def keys_of_request(self, ike: "IkeSa") -> list[Payload]:
        """Nonce, and KE where there is one."""
        self.ni = ike.context.random(NONCE_BYTES)
        public = (
            [KeyExchange(self.initiating.group, self.initiating.public)]
            if self.initiating is not None
            else []
        )
        return [Nonce(self.ni), *public]

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        error = error_in(message)
        if error is not None:
            self._error(ike, now, error)
            return
        try:
            suite = self.accept(ike, message)
            self.nr = message.one(Nonce).data
            if self.nr == self.ni:
                raise InvalidSyntax("the answer's nonce is this side's own")
            secrets = self._secret(suite, message)
            link = _link(message) if suite.additional else b""
        except PeerError as wrong:
            self.unacceptable(ike, now, wrong)
            return
        if suite.additional:
            self._follow(ike, now, self, suite, secrets, link)
        else:
            self.finish(ike, now, secrets)

    def _follow(
        self, ike: "IkeSa", now: float, before: Exchange, suite: Suite, secrets: list[bytes], link: bytes
    ) -> None:
        follow_up = FollowUp(self, suite, secrets, link)
        before.pass_on(follow_up)
        self._held = follow_up.held
        ike.submit_first(follow_up, now)

    def _secret(self, suite: Suite, message: Message) -> list[bytes]:
        if suite.group == Ke.NONE:
            return []
        public = message.one(KeyExchange)
        if self.initiating is None or not public.group == suite.group == self.initiating.group:
            raise InvalidSyntax("the answer's key exchange is not the one that was begun")
        return [self.initiating.finish(public.data)]

    def _error(self, ike: "IkeSa", now: float, error: Notify) -> None:
        if self.tries > 1 and error.notify_type == NotifyType.INVALID_KE_PAYLOAD:
            group = int.from_bytes(error.data)
            if group in self.groups():
                ike.submit_first(self.again(group=group, tries=self.tries - 1), now)
                return
        if self.tries > 1 and error.notify_type == NotifyType.TEMPORARY_FAILURE:
            wait = RETRY_SECONDS * 2 ** (TRIES - self.tries) * (0.5 + ike.context.fraction())
            ike.submit_later(self.again(group=self.group, tries=self.tries - 1), now, wait)
            return
        self.refused(ike, now, error)


def _link(message: Message) -> bytes:
    notify = message.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    if notify is None:
        raise InvalidSyntax("no ADDITIONAL_KEY_EXCHANGE where more key exchanges follow")
    return notify.data


class FollowUp(Exchange):
    """IKE_FOLLOWUP_KE: the next additional key exchange of what ``creating`` makes."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_FOLLOWUP_KE

    def __init__(self, creating: Creating, suite: Suite, secrets: list[bytes], link: bytes):
        self.creating = creating
        self._suite = suite
        self._secrets = secrets
        self._link = link
        done = len(secrets) - (suite.group != Ke.NONE)
        self._last = done + 1 == len(suite.additional)
        self._initiating = key_exchange.start(suite.additional[done][1])

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload]:
        return (
            KeyExchange(self._initiating.group, self._initiating.public),
            Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, self._link),
        )

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        error = error_in(message)
        if error is not None:
            self.creating.refused(ike, now, error)
            return
        try:
            public = message.one(KeyExchange)
            if public.group != self._initiating.group:
                raise InvalidSyntax("the answer's key exchange is not the one that was begun")
            secrets = [*self._secrets, self._initiating.finish(public.data)]
            link = b"" if self._last else _link(message)
        except PeerError as wrong:
            self.creating.unacceptable(ike, now, wrong)
            return
        if self._last:
            self.creating.finish(ike, now, secrets)
        else:
            self.creating._follow(ike, now, self, self._suite, secrets, link)


@dataclass
class FollowUps:
    """What a responder keeps of an exchange with additional key exchanges until they are through.

    Members
    -------
    methods : tuple of int
        Still to come.
    secrets : list of bytes
        So far.
    complete : callable
        Makes the SA with these secrets, out of what was held; returns what is to be done when the answer is
        on its way.
    held : Holdings
        Until it is complete.
    replaces : ChildSa or None
        The child SA that it is to replace.
    """

    link: bytes
    methods: tuple[int, ...]
    secrets: list[bytes] = field(repr=False)
    complete: Callable[[list[bytes], Holdings], Sent | None] = field(repr=False)
    held: Holdings = field(repr=False)
    replaces: "ChildSa | None" = None


def respond(suite: Suite, message: Message) -> tuple[list[bytes], list[Payload]]:
    """The responder's half of the key exchange of ``message``, if there is one: its secret and its KE
    payload.
    """
    if suite.group == Ke.NONE:
        return [], []
    done = key_exchange.respond(suite.group, message.one(KeyExchange).data)
    return [done.secret], [KeyExchange(done.group, done.public)]


def complete_or_follow(
    ike: "IkeSa",
    now: float,
    suite: Suite,
    secrets: list[bytes],
    complete: Callable[[list[bytes], Holdings], Sent | None],
    payloads: Sequence[Payload],
    held: Holdings,
    replaces: "ChildSa | None" = None,
) -> Reply:
    """Makes the SA out of what is ``held``, or keeps what is needed until its additional key exchanges are
    through.
    """
    if not suite.additional:
        return Reply(tuple(payloads), complete(secrets, held))
    methods = tuple(method for _, method in suite.additional)
    return _wait(ike, now, payloads, FollowUps(b"", methods, secrets, complete, held, replaces))


def _wait(ike: "IkeSa", now: float, payloads: Sequence[Payload], pending: FollowUps) -> Reply:
    """Keeps ``pending`` for a while, in place of whatever was pending before."""
    pending = replace(pending, link=ike.context.random(8), held=pending.held.move())
    ike.keep_pending(pending, now, FOLLOW_UP_SECONDS)
    return Reply((*payloads, Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, pending.link)))


def answer_follow_up(ike: "IkeSa", now: float, message: Message) -> Reply:
    """A peer's IKE_FOLLOWUP_KE."""
    pending, notify = ike.pending, message.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    if pending is None or notify is None or notify.data != pending.link:
        return refusal(NotifyType.STATE_NOT_FOUND)
    with pending.held.move() as held:
        ike.drop_pending()
        public = message.one(KeyExchange)
        if public.group != pending.methods[0]:
            raise InvalidSyntax(f"key exchange {public.group} where {pending.methods[0]} is due")
        done = key_exchange.respond(public.group, public.data)
        payloads = [KeyExchange(done.group, done.public)]
        secrets, methods = [*pending.secrets, done.secret], pending.methods[1:]
        if not methods:
            return Reply(tuple(payloads), pending.complete(secrets, held))
        return _wait(ike, now, payloads, replace(pending, methods=methods, secrets=secrets, held=held))
