"""What a lane and its crypto engine say to each other.

An engine works on ``contexts`` packets at the same time; each context has its own group of streams (an
:class:`Context`), and the engine interleaves them as it likes. So a compact engine and one that does a
block a
clock fit the same lane.

One packet on one context: a :class:`Job`, then :data:`MATERIAL_ROWS` rows of the SA, then the packet's
words; out come the transformed words, then one :class:`Result`. An engine takes the next packet's job and
material while the present one runs, and expands its key then. All words are bytes in wire order, byte 0 in
the low bits, as in :mod:`spigate.hdl.net.packet`.
"""

from enum import IntEnum

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.csr import layout

MATERIAL_ROWS = 6
"""``key_low``, ``key_high``, ``auth_0`` to ``auth_3`` of the SA's entry, always all, in this order."""


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
