# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The first exchanges, from the side that begins (RFC 7296 1.2, RFC 9242, RFC 9370)."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.ike.crypto import authentication, key_exchange, keys, proposals
from spigate.firmware_py.ike.engine import nat, negotiation
from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.engine.attempt import TRIES_IN_VAIN
from spigate.firmware_py.ike.engine.create_child import CreateChild, make_child, reqid_of
from spigate.firmware_py.ike.engine.exchange import Exchange, error_in, says
from spigate.firmware_py.ike.engine.handshake import (
    Transcript,
    bound_ike_sas,
    capabilities,
    prove,
    update_keys,
    verify,
)
from spigate.firmware_py.ike.engine.informational import DeleteSpi
from spigate.firmware_py.ike.engine.keyed_exchange import NONCE_BYTES
from spigate.firmware_py.ike.peers.certificates import Authorities
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import ChildConfig
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed, InvalidSyntax, PeerError
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import (
    IdI,
    IdR,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
)
from spigate.firmware_py.ike.wire.registry import ADDITIONAL_KEY_EXCHANGES, ExchangeType, NotifyType
from spigate.firmware_py.ike.wire.structures import Proposal
from spigate.firmware_py.ipsec.sa import Selectors

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa

TRIES = 6
"""How often IKE_SA_INIT is begun again because of a cookie or a group: whoever answers so may be anybody."""
MAX_COOKIE = 64


@dataclass(frozen=True)
class Wanted:
    """A child SA to make, and the packet that is waiting for it."""

    config: ChildConfig
    packet: Selectors | None = None


@dataclass
class Plan:
    """Members
    -------
    wanted : list of Wanted
        Child SAs to make as soon as there is an IKE SA; the first in IKE_AUTH.
    initial_contact : bool
        There is no other IKE SA with this peer.
    """

    wanted: list[Wanted] = field(default_factory=list)
    initial_contact: bool = True


@dataclass
class Init(Exchange):
    """IKE_SA_INIT, with what earlier tries of it taught.

    Nothing that comes back proves anything (RFC 7296 2.4, 2.21.1). Each answer that may be the peer's makes
    a candidate, on which the handshake goes on; this exchange stays, and ends when one of them is
    authenticated, or in time.
    """

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_SA_INIT

    plan: Plan
    nonce: bytes = b""
    cookie: bytes | None = None
    group: int | None = None
    tries: int = TRIES
    earlier: key_exchange.Initiating | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._request = self._raw = b""
        self._seen: set[bytes] = set()

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload]:
        self.nonce = self.nonce or ike.context.random(NONCE_BYTES)
        self._offered = proposals.offer(ike.entry.proposals)
        group = self.group or negotiation.first_group(self._offered)
        if self.earlier is not None and self.earlier.group == group:  # the same again, with a cookie (2.6)
            self._initiating = self.earlier
        else:
            self._initiating = key_exchange.start(group)
        cookie = [Notify(NotifyType.COOKIE, self.cookie)] if self.cookie is not None else []
        intermediate = (
            [Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)] if _has_additional(self._offered) else []
        )
        force = ike.entry.force_encapsulation
        detection = nat.detection(ike.spi_i, ike.spi_r, ike.path, force, ike.context.random)
        public = KeyExchange(self._initiating.group, self._initiating.public)
        return [
            *cookie,
            SecurityAssociation(self._offered),
            public,
            Nonce(self.nonce),
            *detection,
            *capabilities(),
            *intermediate,
        ]

    def sent(self, ike: "IkeSa", message: Message, datagrams: tuple[bytes, ...]) -> None:
        self._request = datagrams[0]

    def received(self, datagram: bytes) -> None:
        self._raw = datagram

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        try:
            self._judge(ike, now, message)
        except PeerError as error:  # nobody can tell who sent this
            self._in_vain(ike, now, str(error))

    def _judge(self, ike: "IkeSa", now: float, message: Message) -> None:
        cookie, error = message.notify(NotifyType.COOKIE), error_in(message)
        if cookie is not None and message.optional(SecurityAssociation) is None:
            if self.tries > 0 and 1 <= len(cookie.data) <= MAX_COOKIE:
                self._again(ike, now, replace(self, cookie=cookie.data))
        elif error is not None:
            group = int.from_bytes(error.data) if error.notify_type == NotifyType.INVALID_KE_PAYLOAD else 0
            other = group in negotiation.groups(self._offered) - {self._initiating.group}
            if self.tries > 0 and other:
                self._again(ike, now, replace(self, group=group))
            else:
                offered = error.notify_type == NotifyType.NO_PROPOSAL_CHOSEN
                self._in_vain(
                    ike,
                    now,
                    f"an answer that proves nothing says {says(error)}"
                    + (f"; offered was {proposals.texts(self._offered)}" if offered else ""),
                )
        else:
            self._agreed(ike, now, message)

    def _again(self, ike: "IkeSa", now: float, successor: "Init") -> None:
        ike.request_again(replace(successor, tries=self.tries - 1, earlier=self._initiating), now)

    def _agreed(self, ike: "IkeSa", now: float, message: Message) -> None:
        digest = hashlib.sha256(self._raw).digest()
        if digest in self._seen:
            return
        suite = proposals.check(message.one(SecurityAssociation).proposals, self._offered)
        public, nonce = message.one(KeyExchange), message.one(Nonce).data
        if not public.group == suite.group == self._initiating.group:
            raise InvalidSyntax("the answer's key exchange is not the one that was begun")
        if suite.additional and message.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is None:
            raise InvalidSyntax("additional key exchanges without IKE_INTERMEDIATE")
        if not any(message.spi_r) or message.spi_r in ike.context.ikes:
            raise InvalidSyntax("no SPI of the responder's")
        if nonce == self.nonce or public.data == self._initiating.public:
            raise InvalidSyntax("the answer is this side's own")
        secret = self._initiating.finish(public.data)
        hashes = authentication.hashes_of(message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS))
        candidate = ike.candidate(message.spi_r, now)
        if candidate is None:
            return
        self._seen.add(digest)
        ike.wait_for_more()
        candidate.fragmentation = message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None
        nat.detect(message, candidate.path, ike.entry.force_encapsulation)
        if candidate.path.nat:
            candidate.path.float()
        transcript = Transcript(self._request, self._raw, self.nonce, nonce, hashes)
        seed = keys.skeyseed(suite.prf, secret, self.nonce, nonce)
        candidate.use_keys(suite, keys.ike_keys(suite, seed, self.nonce, nonce, ike.spi_i, message.spi_r))
        childless = message.notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED) is not None
        auth = IkeAuth(self.plan, transcript, childless)
        methods = [method for _, method in suite.additional]
        candidate.go_on_with(Intermediate(methods, transcript, auth) if methods else auth, now)

    def _in_vain(self, ike: "IkeSa", now: float, why: str) -> None:
        ike.unproved(now, EventKind.REFUSED, f"IKE_SA_INIT: {why}")
        ike.request_in_vain(TRIES_IN_VAIN)


def _has_additional(offered: Iterable[Proposal]) -> bool:
    return any(proposal.of(kind) for proposal in offered for kind in ADDITIONAL_KEY_EXCHANGES)


class Intermediate(Exchange):
    """IKE_INTERMEDIATE with the first of ``methods``; the others and ``then`` follow."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_INTERMEDIATE

    def __init__(self, methods: Sequence[int], transcript: Transcript, then: Exchange):
        self._initiating = key_exchange.start(methods[0])
        self._left = methods[1:]
        self._transcript = transcript
        self._then = then

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload]:
        return (KeyExchange(self._initiating.group, self._initiating.public),)

    def sent(self, ike: "IkeSa", message: Message, datagrams: tuple[bytes, ...]) -> None:
        self._transcript.add_request(ike, message)

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        error = error_in(message)
        if error is not None:
            ike.close(now, EventKind.IKE_FAILED, f"the peer says {says(error)}")
            return
        public = message.one(KeyExchange)
        if public.group != self._initiating.group:
            raise InvalidSyntax("the answer's key exchange is not the one that was begun")
        secret = self._initiating.finish(public.data)
        self._transcript.add_response(ike, message)
        update_keys(ike, self._transcript, secret)
        left = self._left
        ike.submit_first(Intermediate(left, self._transcript, self._then) if left else self._then, now)


class IkeAuth(Exchange):
    """IKE_AUTH, with the first child SA."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_AUTH

    def __init__(self, plan: Plan, transcript: Transcript, childless: bool):
        self._plan = plan
        self._transcript = transcript
        self._childless = childless
        self._offer: negotiation.Offer | None = None
        self._first: Wanted | None = None

    def request(self, ike: "IkeSa", now: float) -> Iterable[Payload] | None:
        peer, own = ike.entry, ike.entry.local_identity.payload(IdI)
        try:
            certs, auth = prove(ike, self._transcript, own)
        except AuthenticationFailed as error:
            ike.close(now, EventKind.IKE_FAILED, str(error))
            return None
        first = [Notify(NotifyType.INITIAL_CONTACT)] if self._plan.initial_contact else []
        asked = [peer.remote_credential.request()] if isinstance(peer.remote_credential, Authorities) else []
        wanted = self._plan.wanted or ([Wanted(peer.parts[0])] if peer.parts and not self._childless else [])
        child: list[Payload] = []
        if wanted:
            self._first = wanted[0]
            self._offer = negotiation.Offer(
                ike, self._first.config, self.held, key_exchange=False, packet=self._first.packet
            )
            child = self._offer.payloads()
        return [own, *certs, *first, *asked, *_expected(peer.remote_identity), auth, *child]

    def response(self, ike: "IkeSa", now: float, message: Message) -> None:
        error, identity = error_in(message), message.optional(IdR)
        if identity is None:
            said = says(error) if error is not None else "nothing of who it is"
            ike.close(now, EventKind.IKE_FAILED, f"the peer says {said}")
            return
        try:
            ike.identity = verify(ike, self._transcript, message, identity)
        except AuthenticationFailed as wrong:
            ike.disown(now, str(wrong), NotifyType.AUTHENTICATION_FAILED)
            return
        bound_ike_sas(ike, now)
        ike.establish(now)
        ike.event(EventKind.IKE_UP, f"{ike.identity} at {ike.path.remote}, {ike.suite}")
        if self._first is not None and self._offer is not None:
            self._first_child(ike, now, self._first, self._offer, message, error)
        for wanted in [each for each in self._plan.wanted if each is not self._first]:
            ike.submit(CreateChild(wanted.config, packet=wanted.packet), now)

    def _first_child(
        self,
        ike: "IkeSa",
        now: float,
        wanted: Wanted,
        offer: negotiation.Offer,
        message: Message,
        error: Notify | None,
    ) -> None:
        config = offer.config
        if error is not None:
            single = offer.single_pair(error, wanted.packet)
            if single is not None:
                ike.submit_first(CreateChild(single), now)
            else:
                ike.event(EventKind.CHILD_FAILED, offer.refused(error), config.name)
            return
        try:
            agreement = offer.accept(ike, message)
        except PeerError as wrong:
            ike.submit_first(DeleteSpi(config.protocol, offer.spi), now)
            ike.event(EventKind.CHILD_FAILED, f"{config.label}: {wrong}", config.name)
            return
        child = make_child(
            ike,
            agreement,
            self._transcript.ni,
            self._transcript.nr,
            [],
            self.held,
            initiator=True,
            reqid=reqid_of(ike, agreement),
        )
        child.install(now, outbound=True)
        ike.event(EventKind.CHILD_UP, str(child), config.name)
        for rest in offer.rest(ike):
            ike.submit(CreateChild(rest), now)


def _expected(pattern: str) -> list[Payload]:
    """IDr, where exactly one identity is expected."""
    if any(sign in pattern for sign in "*%/"):
        return []
    try:
        return [Identity.parse(pattern).payload(IdR)]
    except InputError:
        return []
