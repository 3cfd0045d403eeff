# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What a lane and its crypto engine say to each other.

An engine works on ``contexts`` packets at the same time; each context has its own group of streams (an
:class:`Context`), and the engine interleaves them as it likes. So a compact engine and one that does a
block a
clock fit the same lane.

One packet on one context: a :class:`Job`, then :data:`MATERIAL_ROWS` rows of the SA, then the packet's
words; out come the transformed words, then one :class:`Result`. An engine takes the next packet's job and
material while the present one runs, and expands its key then. All words are bytes in wire order, byte 0 in
the low bits, as in :mod:`spigate.hdl.net.packet`.

What an engine is, its class declares (:class:`Engine`): the lane is built for its contexts and its width,
dispatch lets nothing come to it that it does not know, and the capability registers tell the host.
"""

from dataclasses import dataclass
from enum import IntEnum
from pkgutil import resolve_name
from typing import ClassVar

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract import rdl
from spigate.hdl.contract.enums import Auth, Cipher, KeySize
from spigate.hdl.contract.parameters import ENGINES, check_engine
from spigate.hdl.csr import layout

MATERIAL_ROWS = 6
"""``key_low``, ``key_high``, ``auth_0`` to ``auth_3`` of the SA's entry, always all, in this order."""

CONTEXTS = (1, 2, 4)
"""How many contexts an engine may have."""
WORD_BYTES = (4, 8, 16)
"""How wide its words may be."""
NAMES = tuple(rdl.registers()["algorithms"].fields)
"""Names of what an engine may know, as in the register ``algorithms``."""


@dataclass(frozen=True)
class Algorithms:
    """What an engine knows.

    Members
    -------
    ciphers : frozenset of Cipher
    key_sizes : frozenset of KeySize
        Of AES, whichever mode; empty where the only cipher is NULL.
    auths : frozenset of Auth
        What authenticates beside a cipher that does so itself, without NONE.
    gcm_icvs : frozenset of int
        Bytes that the ICV of AES-GCM may have.

    Raises
    ------
    ValueError
        They do not go together, or the register has no name for one.
    """

    ciphers: frozenset[Cipher]
    key_sizes: frozenset[KeySize] = frozenset()
    auths: frozenset[Auth] = frozenset()
    gcm_icvs: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not self.ciphers:
            raise ValueError("ciphers must be one or more, not none")
        if bool(self.key_sizes) != bool(self.ciphers - {Cipher.NULL}):
            raise ValueError(
                f"key_sizes must be given for AES, and for AES alone, not {_all(self.key_sizes)}"
            )
        if Auth.NONE in self.auths:
            raise ValueError("auths must be without NONE, which says that there is none")
        if not self.auths and self.ciphers != {Cipher.AES_GCM}:
            raise ValueError(f"auths must be one or more beside {_all(self.ciphers - {Cipher.AES_GCM})}")
        if bool(self.gcm_icvs) != (Cipher.AES_GCM in self.ciphers):
            raise ValueError(
                f"gcm_icvs must be given for AES-GCM, and for it alone, not {_all(self.gcm_icvs)}"
            )
        for unknown in sorted(set(self.names) - set(NAMES)):
            raise ValueError(f"the register algorithms has no field for {unknown!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """The fields of the register ``algorithms`` that are 1, in no order."""
        return (
            *(f"cipher_{cipher.name.lower()}" for cipher in self.ciphers),
            *(f"key_{size.name.lower()}" for size in self.key_sizes),
            *(f"auth_{auth.name.lower()}" for auth in self.auths),
            *(f"gcm_icv{size}" for size in self.gcm_icvs),
        )

    @property
    def hmac(self) -> bool:
        """Some packets are authenticated by an HMAC."""
        return bool(self.auths)

    @property
    def gcm(self) -> bool:
        """Some packets are encrypted with AES-GCM."""
        return Cipher.AES_GCM in self.ciphers

    @property
    def cbc(self) -> bool:
        """Some packets are encrypted with AES-CBC."""
        return Cipher.AES_CBC in self.ciphers

    @property
    def fullest(self) -> dict[str, int]:
        """Cipher, key size and authentication of the SA whose job goes through all memory in which a job of
        any other one leaves keys or text: a job of zeros with it wipes the engine.
        """
        cipher = max(self.ciphers, key=[Cipher.NULL, Cipher.AES_GCM, Cipher.AES_CBC].index)
        auth = Auth.NONE if cipher == Cipher.AES_GCM else max(self.auths)
        return {"cipher": cipher, "key_size": max(self.key_sizes, default=KeySize.AES128), "auth": auth}


def _all(members) -> str:
    return ", ".join(getattr(member, "name", str(member)) for member in sorted(members)) or "none"


class Kind(IntEnum):
    """What a word is."""

    ASSOCIATED = 0
    """Authenticated, neither encrypted nor handed back. GCM: the AAD. HMAC: bytes in front of and behind IV
    and text.
    """
    IV = 1
    """CBC: 16 bytes, authenticated by HMAC. GCM: the 8 bytes behind the salt, not authenticated. None for
    NULL.
    """
    TEXT = 2
    """Encrypted or decrypted; authenticated as cipher text."""
    ICV = 3
    """The integrity check value: to be compared (decrypting), or computed and handed back (encrypting)."""


class Job(data.StructLayout):
    """Members
    -------
    cipher, key_size, auth
        As in the SA's entry. GCM goes with auth NONE.
    encrypt : unsigned(1)
    derive_iv : unsigned(1)
        Encrypting with CBC: the IV words given are a number used once, and their encryption under the SA's
        key becomes the IV (NIST SP 800-38A, appendix C). Otherwise they are the IV.
    salt : unsigned(32)
        GCM: bytes 0 to 3 of the nonce (RFC 4106 4).
    """

    def __init__(self):
        super().__init__({"cipher": 3, "key_size": 2, "auth": 3, "encrypt": 1, "derive_iv": 1, "salt": 32})


class Word(data.StructLayout):
    """One word of a packet.

    Members
    -------
    data : unsigned(8 * word_bytes)
    kind : unsigned(2)
        A :class:`Kind`. In: ASSOCIATED, IV, TEXT, ASSOCIATED, ICV, each possibly absent (GCM: no ASSOCIATED
        behind TEXT; encrypting: no ICV). Out: IV (encrypting, where there is one), TEXT, ICV (encrypting: 12
        bytes for HMAC-SHA-1-96, else 16), in this order.
    count : range(word_bytes + 1)
        Valid bytes, 1 to ``word_bytes``; less than all only in the last word of a kind's run, with HMAC
        only in the last word that is authenticated. Bytes beyond are undefined.
    last : unsigned(1)
        In: the packet's last word. A packet has at least one word.
    """

    def __init__(self, word_bytes: int):
        super().__init__({"data": 8 * word_bytes, "kind": 2, "count": range(word_bytes + 1), "last": 1})


class Result(data.StructLayout):
    """``ok``: the ICV was right (decrypting; an ICV shorter or longer than the algorithm's is wrong), or
    there was none to check (encrypting, NULL with NONE).
    """

    def __init__(self):
        super().__init__({"ok": 1})


class Context(wiring.Signature):
    """The streams of one packet in flight, seen from the engine."""

    def __init__(self, word_bytes: int):
        super().__init__(
            {
                "job": In(stream.Signature(Job())),
                "material": In(stream.Signature(layout.ROW_BITS)),
                "i": In(stream.Signature(Word(word_bytes))),
                "o": Out(stream.Signature(Word(word_bytes))),
                "result": Out(stream.Signature(Result())),
            }
        )


class EngineSignature(wiring.Signature):
    """An engine: ``contexts`` groups of streams."""

    def __init__(self, *, contexts: int, word_bytes: int):
        super().__init__({"context": Out(Context(word_bytes)).array(contexts)})


class Engine(wiring.Component):
    """Base of all engines. A class says what its engines are; :class:`~spigate.hdl.dfe.fill.Fill` makes one
    a lane without arguments.

    Declarations
    ------------
    contexts : int
        Packets in work at the same time: one of :data:`CONTEXTS`.
    word_bytes : int
        Width of a word: one of :data:`WORD_BYTES`.
    algorithms : Algorithms
        What may be asked of it. No job comes to it whose cipher, key size or authentication is none of
        these: dispatch takes such an SA as absent.

    Members
    -------
    context : Context(word_bytes).array(contexts)
        As :class:`EngineSignature` says.
    """

    contexts: ClassVar[int]
    word_bytes: ClassVar[int]
    algorithms: ClassVar[Algorithms]

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        for name, allowed in (("contexts", CONTEXTS), ("word_bytes", WORD_BYTES)):
            value = getattr(cls, name, None)
            if value not in allowed:
                raise TypeError(f"{cls.__name__}.{name} must be one of {_all(allowed)}, not {value!r}")
        if not isinstance(getattr(cls, "algorithms", None), Algorithms):
            raise TypeError(f"{cls.__name__}.algorithms must say what the engine knows")

    def __init__(self) -> None:
        super().__init__(EngineSignature(contexts=self.contexts, word_bytes=self.word_bytes))


def engine_named(name: str) -> type[Engine]:
    """The engine of :data:`~spigate.hdl.contract.parameters.ENGINES`.

    Raises
    ------
    ValueError
        There is none with that name.
    """
    check_engine(name)
    found: type[Engine] = resolve_name(ENGINES[name])
    return found
