"""Keys: prf, prf+, SKEYSEED, SK_*, KEYMAT (RFC 7296 2.13 to 2.18, RFC 9370 2.2). Secrets never in reprs."""
from collections.abc import Sequence
from dataclasses import dataclass, field

from spigate.firmware_py.ike.proposals import Suite
from spigate.firmware_py.ike.registry import Prf


@dataclass(frozen=True)
class IkeKeys:
    """SK_d, SK_ai, SK_ar, SK_ei, SK_er (with salt behind it, where the cipher wants one), SK_pi, SK_pr."""

    d: bytes = field(repr=False)
    ai: bytes = field(repr=False)
    ar: bytes = field(repr=False)
    ei: bytes = field(repr=False)
    er: bytes = field(repr=False)
    pi: bytes = field(repr=False)
    pr: bytes = field(repr=False)


@dataclass(frozen=True)
class TrafficKeys:
    """Of one direction of a child SA; what :class:`spigate.firmware_py.sa.Sa` calls key, salt and auth_key."""

    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    auth_key: bytes = field(repr=False)


@dataclass(frozen=True)
class ChildKeys:
    """``initiator`` protects what the initiator of the exchange that made the child sends."""

    initiator: TrafficKeys
    responder: TrafficKeys


def prf(algorithm: Prf, key: bytes, data: bytes) -> bytes:
    """RFC 7296 2.13, HMAC."""
    raise NotImplementedError


def prf_plus(algorithm: Prf, key: bytes, seed: bytes, length: int) -> bytes:
    """RFC 7296 2.13; at most 255 blocks."""
    raise NotImplementedError


def prf_bytes(algorithm: Prf) -> int:
    """Length of its output and of its preferred key."""
    raise NotImplementedError


def skeyseed(algorithm: Prf, secret: bytes, ni: bytes, nr: bytes) -> bytes:
    """Of IKE_SA_INIT: prf(Ni | Nr, g^ir)."""
    raise NotImplementedError


def skeyseed_rekey(algorithm: Prf, sk_d: bytes, secrets: Sequence[bytes], ni: bytes, nr: bytes) -> bytes:
    """Of a rekeyed IKE SA (2.18, RFC 9370 2.2.4): prf(SK_d(old), secret 0 | Ni | Nr | secret 1 | ...), with the old
    IKE SA's prf and SK_d. ``secrets``: of KE, then of each additional key exchange."""
    raise NotImplementedError


def skeyseed_update(algorithm: Prf, sk_d: bytes, secret: bytes, ni: bytes, nr: bytes) -> bytes:
    """After an IKE_INTERMEDIATE with an additional key exchange (RFC 9370 2.2.2): prf(SK_d, SK(n) | Ni | Nr)."""
    raise NotImplementedError


def ike_keys(suite: Suite, seed: bytes, ni: bytes, nr: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    """prf+(SKEYSEED, Ni | Nr | SPIi | SPIr), cut to the suite's lengths."""
    raise NotImplementedError


def child_keys(algorithm: Prf, sk_d: bytes, suite: Suite, ni: bytes, nr: bytes,
               secrets: Sequence[bytes] = ()) -> ChildKeys:
    """KEYMAT = prf+(SK_d, secret 0 | Ni | Nr | secret 1 | ...), cut for ``suite`` (2.17, RFC 9370 2.2.4). ``algorithm``
    is the IKE SA's prf; ``secrets`` is empty where the child had no key exchange of its own."""
    raise NotImplementedError
