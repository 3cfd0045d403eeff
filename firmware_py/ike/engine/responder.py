# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The first exchanges, from the side that answers (RFC 7296 1.2, RFC 9242, RFC 9370)."""

from collections.abc import Sequence

from spigate.firmware_py.ike.crypto import authentication, key_exchange, keys, proposals
from spigate.firmware_py.ike.engine import nat, negotiation
from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.engine.context import Context
from spigate.firmware_py.ike.engine.create_child import is_full, make_child, reqid_of
from spigate.firmware_py.ike.engine.exchange import Reply
from spigate.firmware_py.ike.engine.handshake import (
    Transcript,
    bound_ike_sas,
    capabilities,
    drop_stale,
    prove,
    update_keys,
    verify,
)
from spigate.firmware_py.ike.engine.holdings import Holdings
from spigate.firmware_py.ike.engine.ike_sa import IkeSa
from spigate.firmware_py.ike.engine.keyed_exchange import NONCE_BYTES
from spigate.firmware_py.ike.engine.nat import Path
from spigate.firmware_py.ike.peers.certificates import Authorities
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import Peer
from spigate.firmware_py.ike.wire.errors import (
    InvalidKePayload,
    InvalidSyntax,
    NoProposalChosen,
    TsUnacceptable,
)
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
from spigate.firmware_py.ike.wire.registry import ExchangeType, NotifyType


def begin(
    context: Context, now: float, message: Message, datagram: bytes, path: Path, candidates: Sequence[Peer]
) -> IkeSa:
    """Answers the first IKE_SA_INIT of somebody who may be one of ``candidates``.

    Raises
    ------
    NoProposalChosen, InvalidKePayload, InvalidSyntax
        Nothing is kept.
    """
    ours = tuple(dict.fromkeys(proposal for peer in candidates for proposal in peer.proposals))
    public, nonce = message.one(KeyExchange), message.one(Nonce).data
    suite = proposals.choose(message.one(SecurityAssociation).proposals, ours, group=public.group)
    if suite.group != public.group:
        raise InvalidKePayload(suite.group)
    intermediate = message.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)
    if suite.additional and intermediate is None:
        raise NoProposalChosen("additional key exchanges without IKE_INTERMEDIATE")
    hashes = authentication.hashes_of(message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS))
    done = key_exchange.respond(public.group, public.data)
    force = any(peer.force_encapsulation for peer in candidates)
    nat.detect(message, path, force)

    ike = IkeSa(
        context, initiator=False, spi_i=message.spi_i, spi_r=context.ike_spi(), path=path, peer=None, now=now
    )
    ike.fragmentation = message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None
    nr = context.random(NONCE_BYTES)
    detection = nat.detection(ike.spi_i, ike.spi_r, path, force, context.random) if path.supported else ()
    trusted = [
        peer.remote_credential for peer in candidates if isinstance(peer.remote_credential, Authorities)
    ]
    payloads = [
        suite.answer(),
        KeyExchange(done.group, done.public),
        Nonce(nr),
        *detection,
        *(each.request() for each in trusted[:1]),
        *capabilities(),
        Notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED),
        *([Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED)] if intermediate is not None else []),
    ]
    response = Message(ike.spi_i, ike.spi_r, ExchangeType.IKE_SA_INIT, False, True, 0, tuple(payloads)).pack()
    transcript = Transcript(datagram, response, nonce, nr, hashes)
    seed = keys.skeyseed(suite.prf, done.secret, nonce, nr)
    ike.use_keys(suite, keys.ike_keys(suite, seed, nonce, nr, ike.spi_i, ike.spi_r))
    ike.handshake = Responder(transcript, [method for _, method in suite.additional])
    ike.answer_init(response, path.local, path.remote)
    return ike


class Responder:
    """Answers what follows on IKE_SA_INIT.

    Parameters
    ----------
    transcript : Transcript
    methods : list of int
        Additional key exchanges that are to come before IKE_AUTH, in order.
    """

    def __init__(self, transcript: Transcript, methods: list[int]):
        self._transcript = transcript
        self._methods = methods

    def answer(self, ike: IkeSa, now: float, message: Message) -> Reply:
        """The answer to a request. Raises PeerError: that was the end."""
        expected = ExchangeType.IKE_INTERMEDIATE if self._methods else ExchangeType.IKE_AUTH
        if message.exchange != expected:
            raise InvalidSyntax(f"exchange {message.exchange} where {expected.name} is due")
        return self._intermediate(ike, message) if self._methods else self._auth(ike, now, message)

    def _intermediate(self, ike: IkeSa, message: Message) -> Reply:
        public = message.one(KeyExchange)
        if public.group != self._methods[0]:
            raise InvalidSyntax(f"key exchange {public.group} where {self._methods[0]} is due")
        done = key_exchange.respond(public.group, public.data)
        self._transcript.add_request(ike, message)

        def then(answer: Message, datagrams: tuple[bytes, ...]) -> None:
            self._transcript.add_response(ike, answer)
            update_keys(ike, self._transcript, done.secret)
            del self._methods[0]

        return Reply((KeyExchange(done.group, done.public),), then)

    def _auth(self, ike: IkeSa, now: float, message: Message) -> Reply:
        claimed, wanted = message.one(IdI), message.optional(IdR)
        local = Identity.of(wanted) if wanted is not None else None
        ike.know(ike.context.pad.authorize(ike.path.remote.address, ike.suite, Identity.of(claimed), local))
        ike.identity = verify(ike, self._transcript, message, claimed)
        own = ike.entry.local_identity.payload(IdR)
        certs, auth = prove(ike, self._transcript, own)
        if message.notify(NotifyType.INITIAL_CONTACT) is not None:
            drop_stale(ike, now)
        bound_ike_sas(ike, now)
        ike.establish(now)
        ike.event(EventKind.IKE_UP, f"{ike.identity} at {ike.path.remote}, {ike.suite}")
        child = self._child(ike, now, message) if message.optional(SecurityAssociation) is not None else []
        return Reply((own, *certs, auth, *child))

    def _child(self, ike: IkeSa, now: float, message: Message) -> list[Payload]:
        """The first child SA; where there can be none, the IKE SA stands all the same (RFC 7296 1.2)."""
        if is_full(ike):
            return [Notify(NotifyType.NO_ADDITIONAL_SAS)]
        with Holdings(ike.context) as held:
            try:
                answer = negotiation.answer(ike, message, ike.entry.children, held, key_exchange=False)
            except (NoProposalChosen, TsUnacceptable) as error:
                ike.event(EventKind.CHILD_FAILED, f"the peer's offer: {error}")
                return [Notify(error.notify)]
            config = answer.agreement.config
            child = make_child(
                ike,
                answer.agreement,
                self._transcript.ni,
                self._transcript.nr,
                [],
                held,
                initiator=False,
                reqid=reqid_of(ike, answer.agreement),
            )
            child.install(now, outbound=True)
            ike.event(EventKind.CHILD_UP, str(child), config.name)
            return answer.payloads()
