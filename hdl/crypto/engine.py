"""The compact crypto engine: two packets in flight on one AES, one GHASH and one HMAC."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring

from spigate.hdl.crypto.aes import CONTEXTS, Aes
from spigate.hdl.crypto.cipher import CipherContext
from spigate.hdl.crypto.ghash import Ghash
from spigate.hdl.crypto.hmac import Hmac
from spigate.hdl.crypto.icv import IcvCheck
from spigate.hdl.crypto.intake import Intake
from spigate.hdl.crypto.interface import EngineSignature, Word
from spigate.hdl.crypto.key_schedule import KeySchedule
from spigate.hdl.crypto.orders import WORD_BITS
from spigate.hdl.net.slice import Slice


class CompactEngine(wiring.Component):
    """An engine of two contexts and 32-bit words, with every cipher and authenticator of the interface.

    A block of AES takes a context 20, 24 or 28 clocks by key size, one of GHASH 8, one of SHA-256 128;
    contexts do not slow each other, but for GHASH's 8 clocks. Associated data and text may have up to 65535
    bytes each (with HMAC, 65471 in all).

    Members
    -------
    context : Context(4).array(2)
        As :class:`~spigate.hdl.crypto.interface.EngineSignature` says.
    """

    def __init__(self):
        super().__init__(EngineSignature(contexts=CONTEXTS, word_bytes=WORD_BITS // 8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.aes = aes = Aes()
        m.submodules.key_schedule = key_schedule = KeySchedule()
        m.submodules.ghash = ghash = Ghash()
        m.submodules.hmac = hmac = Hmac()
        wiring.connect(m, aes.keys, key_schedule.read)

        for n, context in enumerate(self.context):
            m.submodules[f"intake_{n}"] = intake = Intake()
            m.submodules[f"cipher_{n}"] = cipher = CipherContext()
            m.submodules[f"icv_{n}"] = icv = IcvCheck()
            m.submodules[f"arriving_{n}"] = arriving = Slice(Word(WORD_BITS // 8))
            m.submodules[f"leaving_{n}"] = leaving = Slice(Word(WORD_BITS // 8))
            for inner, outer in (
                (intake.job, context.job),
                (intake.material, context.material),
                (arriving.i, context.i),
            ):
                wiring.connect(m, wiring.flipped(outer), inner)
            wiring.connect(m, arriving.o, cipher.i)
            wiring.connect(m, icv.o, leaving.i)
            wiring.connect(m, leaving.o, wiring.flipped(context.o))
            # The result comes behind the words also where these wait.
            m.d.comb += [
                context.result.payload.eq(icv.result.payload),
                context.result.valid.eq(icv.result.valid & ~leaving.o.valid),
                icv.result.ready.eq(context.result.ready & ~leaving.o.valid),
            ]

            wiring.connect(m, intake.key_start, key_schedule.start[n])
            wiring.connect(m, intake.key, key_schedule.key[n])
            wiring.connect(m, intake.hash_key, ghash.key[n])
            wiring.connect(m, intake.task, cipher.task)
            m.d.comb += [intake.key_done.eq(key_schedule.done[n]), intake.keys_in_use.eq(aes.keys_in_use[n])]

            wiring.connect(m, cipher.block, aes.start[n])
            m.d.comb += [cipher.done.eq(aes.done[n]), cipher.result.eq(aes.result)]
            wiring.connect(m, cipher.o, icv.i)
            wiring.connect(m, ghash.digest[n], icv.hash)
            wiring.connect(m, intake.hmac_start, hmac.context[n].start)
            wiring.connect(m, intake.midstate, hmac.context[n].midstate)
            wiring.connect(m, hmac.context[n].digest, icv.mac)

            word, to_ghash = cipher.auth.payload.word, cipher.auth.payload.ghash
            by_hash, by_mac = ghash.i[n], hmac.context[n].i
            m.d.comb += [
                by_hash.payload.eq(word),
                by_hash.valid.eq(cipher.auth.valid & to_ghash),
                by_mac.payload.data.eq(word.data),
                by_mac.payload.count.eq(word.count),
                by_mac.payload.last.eq(word.last),
                by_mac.valid.eq(cipher.auth.valid & ~to_ghash),
                cipher.auth.ready.eq(Mux(to_ghash, by_hash.ready, by_mac.ready)),
            ]
        return m
