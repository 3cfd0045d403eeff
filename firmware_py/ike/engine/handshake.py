# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What both sides of the first exchanges do alike: gather what AUTH covers, prove who one is, check who the
peer is.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spigate.firmware_py.errors import InputError, UnsupportedError
from spigate.firmware_py.ike.crypto import authentication, keys
from spigate.firmware_py.ike.crypto.protect import int_auth_octets
from spigate.firmware_py.ike.engine.actions import EventKind
from spigate.firmware_py.ike.engine.state import State
from spigate.firmware_py.ike.peers import certificates
from spigate.firmware_py.ike.peers.identities import Identity
from spigate.firmware_py.ike.peers.pad import AccessToken, KeyPair, PreSharedKey, Shared
from spigate.firmware_py.ike.wire.errors import AuthenticationFailed
from spigate.firmware_py.ike.wire.message import Message
from spigate.firmware_py.ike.wire.payloads import Auth, Cert, Identification, Notify, Payload
from spigate.firmware_py.ike.wire.registry import NotifyType

if TYPE_CHECKING:
    from spigate.firmware_py.ike.engine.ike_sa import IkeSa


@dataclass
class Transcript:
    """What was said before IKE_AUTH.

    Members
    -------
    request, response : bytes
        IKE_SA_INIT, as it was on the wire.
    ni, nr : bytes
    hashes : collection of int or None
        The peer's, for signatures (RFC 7427).
    of_initiator, of_responder : bytes
        The running IntAuth of IKE_INTERMEDIATE (RFC 9242 3.3).
    intermediates : int
        How many there were.
    """

    request: bytes = b""
    response: bytes = b""
    ni: bytes = b""
    nr: bytes = b""
    hashes: Collection[int] | None = None
    of_initiator: bytes = b""
    of_responder: bytes = b""
    intermediates: int = 0

    def add_request(self, ike: "IkeSa", message: Message) -> None:
        """An IKE_INTERMEDIATE request, before its keys are replaced."""
        self.of_initiator = authentication.int_auth_step(
            ike.suite.prf, ike.keys.pi, self.of_initiator, int_auth_octets(message)
        )

    def add_response(self, ike: "IkeSa", message: Message) -> None:
        """The response to it, before its keys are replaced."""
        self.of_responder = authentication.int_auth_step(
            ike.suite.prf, ike.keys.pr, self.of_responder, int_auth_octets(message)
        )
        self.intermediates += 1

    def octets(self, ike: "IkeSa", identity: Identification, *, of_initiator: bool) -> bytes:
        """What one side's AUTH covers."""
        covered = b""
        if self.intermediates:
            covered = authentication.int_auth(self.of_initiator, self.of_responder, 1 + self.intermediates)
        message, nonce, sk_p = (
            (self.request, self.nr, ike.keys.pi) if of_initiator else (self.response, self.ni, ike.keys.pr)
        )
        return authentication.signed_octets(message, nonce, ike.suite.prf, sk_p, identity, covered)


def update_keys(ike: "IkeSa", transcript: Transcript, secret: bytes) -> None:
    """Mixes the secret of an additional key exchange into the IKE SA's keys (RFC 9370 2.2.2)."""
    seed = keys.skeyseed_update(ike.suite.prf, ike.keys.d, secret, transcript.ni, transcript.nr)
    ike.use_keys(
        ike.suite, keys.ike_keys(ike.suite, seed, transcript.ni, transcript.nr, ike.spi_i, ike.spi_r)
    )


def prove(ike: "IkeSa", transcript: Transcript, identity: Identification) -> tuple[list[Cert], Auth]:
    """This side's certificates, if it has some, and its AUTH.

    Raises
    ------
    AuthenticationFailed
        The peer can take no signature of this side's key, or there is no access token.
    """
    octets = transcript.octets(ike, identity, of_initiator=ike.initiator)
    match ike.entry.local_credential:
        case PreSharedKey() | AccessToken() as shared:
            return [], authentication.psk_auth(_secret(shared), ike.suite.prf, octets)
        case KeyPair(key, chain):
            try:
                return certificates.certs(chain), authentication.sign(key, octets, transcript.hashes)
            except UnsupportedError as error:
                raise AuthenticationFailed(str(error)) from None


def verify(ike: "IkeSa", transcript: Transcript, message: Message, identity: Identification) -> Identity:
    """Who the peer is, by the AUTH of its IKE_AUTH ``message``. Raises AuthenticationFailed,
    InvalidSyntax.
    """
    who, auth = Identity.of(identity), message.optional(Auth)
    if not who.matches(ike.entry.remote_identity):
        raise AuthenticationFailed(f"the peer is {who}, where {ike.entry.remote_identity} is expected")
    if auth is None:
        raise AuthenticationFailed("no AUTH payload: the peer wants EAP")
    if any(who == peer.local_identity for peer in ike.context.pad):
        raise AuthenticationFailed(f"the peer says that it is {who}, which is this side")
    octets = transcript.octets(ike, identity, of_initiator=not ike.initiator)
    credential = ike.entry.remote_credential
    if isinstance(credential, Shared):
        authentication.verify_psk(auth, _secret(credential), ike.suite.prf, octets)
    else:
        certificate = credential.verify(message.all(Cert), who, ike.context.utc())
        authentication.verify_signature(auth, certificate.public_key(), octets, transcript.hashes)
    return who


def _secret(shared: Shared) -> bytes:
    try:
        return shared.secret
    except InputError as error:
        raise AuthenticationFailed(str(error)) from None


def capabilities() -> list[Payload]:
    """Notifies of IKE_SA_INIT that say what this side can do."""
    return [Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED), authentication.hashes_notify()]


def drop_stale(ike: "IkeSa", now: float) -> None:
    """INITIAL_CONTACT: the peer has no other IKE SA with this side. Those are closed that stood before it
    began this one; others may be newer than its word."""
    for other in ike.context.with_peer(ike.entry):
        stands = other.state == State.ESTABLISHED
        if other is not ike and stands and other.identity == ike.identity and other.established < ike.created:
            other.close(now, EventKind.IKE_DOWN, "the peer began anew")


def bound_ike_sas(ike: "IkeSa", now: float) -> None:
    """One more IKE SA for an identity: where it has as many as it may have, the one that was not heard for
    longest makes room. So a peer that comes back without INITIAL_CONTACT is never locked out, and never has
    more than that.
    """
    others = [
        other
        for other in ike.context.with_peer(ike.entry)
        if other is not ike and other.state == State.ESTABLISHED and other.identity == ike.identity
    ]
    others.sort(key=lambda other: other.heard)
    for other in others[: max(0, len(others) + 1 - ike.context.settings.ike_sas_per_identity)]:
        other.dismiss(now, "its identity has too many IKE SAs")
