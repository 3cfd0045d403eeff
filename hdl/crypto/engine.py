# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The compact crypto engines: two packets in flight, or one, on one AES, one GHASH and one HMAC.

They are one design. Each class leaves out what the algorithms that it declares do not need.
"""

from amaranth.hdl import Const, Module, Mux
from amaranth.lib import wiring

from spigate.hdl.contract.enums import Auth, Cipher, KeySize
from spigate.hdl.crypto.aes import CONTEXTS, Aes
from spigate.hdl.crypto.cipher import CipherContext
from spigate.hdl.crypto.ghash import Ghash
from spigate.hdl.crypto.hmac import Hmac
from spigate.hdl.crypto.icv import IcvCheck
from spigate.hdl.crypto.intake import Intake
from spigate.hdl.crypto.interface import Algorithms, Engine, Word
from spigate.hdl.crypto.key_schedule import KeySchedule
from spigate.hdl.crypto.orders import WORD_BITS
from spigate.hdl.net.slice import Slice

GCM_ICVS = frozenset({16})


class CompactEngine(Engine):
    """An engine of two contexts and 32-bit words, with every cipher and authenticator of the interface.

    A block of AES takes a context 20, 24 or 28 clocks by key size, one of GHASH 8, one of SHA-256 128;
    contexts do not slow each other, but for GHASH's 8 clocks. Associated data and text may have up to 65535
    bytes each (with HMAC, 65471 in all).
    """

    contexts = CONTEXTS
    word_bytes = WORD_BITS // 8
    algorithms = Algorithms(
        ciphers=frozenset(Cipher),
        key_sizes=frozenset(KeySize),
        auths=frozenset(Auth) - {Auth.NONE},
        gcm_icvs=GCM_ICVS,
    )

    def elaborate(self, platform):
        m = Module()
        knows = self.algorithms
        m.submodules.aes = aes = Aes()
        m.submodules.key_schedule = key_schedule = KeySchedule(sizes=knows.key_sizes)
        if knows.gcm:
            m.submodules.ghash = ghash = Ghash()
        if knows.hmac:
            m.submodules.hmac = hmac = Hmac(auths=knows.auths)
        wiring.connect(m, aes.keys, key_schedule.read)

        for n, context in enumerate(self.context):
            m.submodules[f"intake_{n}"] = intake = Intake(knows)
            m.submodules[f"cipher_{n}"] = cipher = CipherContext(knows)
            m.submodules[f"icv_{n}"] = icv = IcvCheck(knows)
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
            wiring.connect(m, intake.task, cipher.task)
            m.d.comb += [intake.key_done.eq(key_schedule.done[n]), intake.keys_in_use.eq(aes.keys_in_use[n])]

            wiring.connect(m, cipher.block, aes.start[n])
            m.d.comb += [cipher.done.eq(aes.done[n]), cipher.result.eq(aes.result)]
            wiring.connect(m, cipher.o, icv.i)

            # The authenticator that there is takes every word; of two, the one whose word it is.
            word, by_hash, by_mac = cipher.auth.payload.word, Const(0), Const(0)
            to_ghash = cipher.auth.payload.ghash if knows.hmac and knows.gcm else Const(int(knows.gcm))
            if knows.gcm:
                by_hash = ghash.i[n].ready
                wiring.connect(m, intake.hash_key, ghash.key[n])
                wiring.connect(m, ghash.digest[n], icv.hash)
                m.d.comb += [
                    ghash.i[n].payload.eq(word),
                    ghash.i[n].valid.eq(cipher.auth.valid & to_ghash),
                ]
            if knows.hmac:
                by_mac = hmac.context[n].i.ready
                wiring.connect(m, intake.hmac_start, hmac.context[n].start)
                wiring.connect(m, intake.midstate, hmac.context[n].midstate)
                wiring.connect(m, hmac.context[n].digest, icv.mac)
                m.d.comb += [
                    hmac.context[n].i.payload.data.eq(word.data),
                    hmac.context[n].i.payload.count.eq(word.count),
                    hmac.context[n].i.payload.last.eq(word.last),
                    hmac.context[n].i.valid.eq(cipher.auth.valid & ~to_ghash),
                ]
            m.d.comb += cipher.auth.ready.eq(Mux(to_ghash, by_hash, by_mac))
        return m


class GcmEngine(CompactEngine):
    """AES-GCM with keys of 128 and 256 bits, and nothing else."""

    algorithms = Algorithms(
        ciphers=frozenset({Cipher.AES_GCM}),
        key_sizes=frozenset({KeySize.AES128, KeySize.AES256}),
        gcm_icvs=GCM_ICVS,
    )


class SmallGcmEngine(GcmEngine):
    """AES-GCM with one packet in flight: half as fast as :class:`GcmEngine`, and smaller."""

    contexts = 1


class CbcSha256Engine(CompactEngine):
    """AES-CBC with keys of 128 and 256 bits and HMAC-SHA-256-128, and nothing else."""

    algorithms = Algorithms(
        ciphers=frozenset({Cipher.AES_CBC}),
        key_sizes=frozenset({KeySize.AES128, KeySize.AES256}),
        auths=frozenset({Auth.HMAC_SHA256_128}),
    )
