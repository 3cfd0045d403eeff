# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A stand-in for a crypto engine: any number of contexts, any width of word; text is XORed with a byte, the
ICV is a checksum.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo

from spigate.hdl.contract.enums import Auth, Cipher
from spigate.hdl.crypto.engine import CompactEngine
from spigate.hdl.crypto.interface import MATERIAL_ROWS, Engine, Job, Kind

KEY = 0x5A


def xor(text: bytes) -> bytes:
    return bytes(byte ^ KEY for byte in text)


def rotate(value: int) -> int:
    return (value << 1 | value >> 31) & 0xFFFF_FFFF


def checksum(*, salt: int, key_size: int, encrypt: bool, material: list[int], authenticated: bytes) -> bytes:
    """4 bytes that depend on job and material and on ESP header, IV and cipher text."""
    value = salt ^ key_size ^ encrypt << 2
    for row in material:
        value = rotate(value) ^ row & 0xFFFF_FFFF ^ row >> 96
    for at in range(0, len(authenticated), 4):
        value += int.from_bytes(authenticated[at : at + 4], "little")
    return (value & 0xFFFF_FFFF).to_bytes(4, "little")


class StandIn(Engine):
    """An engine whose contexts each take up to a word a clock; with ``pauses`` they take and give in about
    half of the clocks.

    The ICV is the :func:`checksum`, as often as fits in 12 or 16 bytes.
    """

    contexts = 2
    word_bytes = 4
    algorithms = CompactEngine.algorithms
    pauses = False

    def elaborate(self, platform):
        m = Module()
        for at, context in enumerate(self.context):
            self._context(m, at, context)
        return m

    def _context(self, m, at, context):
        lanes = self.word_bytes // 4
        noise = Signal(16, init=0xACE1 + at, name=f"noise_{at}")
        m.d.sync += noise.eq(Cat(noise[15] ^ noise[13] ^ noise[12] ^ noise[10], noise))
        may_take = noise[2] if self.pauses else 1
        # What has been offered stays offered until it is taken.
        may_give, given = Signal(name=f"may_give_{at}"), Signal(name=f"given_{at}")
        m.d.comb += given.eq(
            (context.o.valid & context.o.ready) | (context.result.valid & context.result.ready)
        )
        m.d.sync += may_give.eq((may_give & ~given) | (noise[5] if self.pauses else 1))

        job = Signal(Job(), name=f"job_{at}")
        rows = Signal(range(MATERIAL_ROWS + 1), name=f"rows_{at}")
        state = Signal(2, name=f"state_{at}")  # job, material, words, the ICV to give and the result
        value = Signal(32, name=f"value_{at}")
        icv_left, icv_right = Signal(5, name=f"icv_left_{at}"), Signal(name=f"icv_right_{at}")
        queue = fifo.SyncFIFO(width=len(context.o.payload.as_value()), depth=4)
        m.submodules[f"queue_{at}"] = queue
        out = Signal(context.o.payload.shape(), name=f"out_{at}")
        m.d.comb += [
            queue.w_data.eq(out),
            context.o.payload.eq(queue.r_data),
            context.o.valid.eq(queue.r_rdy & may_give),
            queue.r_en.eq(context.o.valid & context.o.ready),
        ]
        word, give = context.i.payload, Signal(name=f"give_{at}")
        text = word.data ^ int.from_bytes(bytes([KEY]) * self.word_bytes, "little")
        cipher_word = Mux((word.kind == Kind.TEXT) & job.encrypt, text, word.data)
        sum_ = value
        for lane in range(lanes):
            sum_ = sum_ + Mux(
                (word.count > 4 * lane) & (word.kind != Kind.ICV), cipher_word[32 * lane : 32 * lane + 32], 0
            )
        wanted = Mux(
            (job.cipher == Cipher.AES_GCM) | (job.auth == Auth.HMAC_SHA256_128),
            16,
            Mux(job.auth == Auth.HMAC_SHA1_96, 12, 0),
        )
        with m.If(state == 0):
            m.d.comb += context.job.ready.eq(may_take)
            with m.If(context.job.valid & context.job.ready):
                payload = context.job.payload
                m.d.sync += [
                    job.eq(payload),
                    value.eq(payload.salt ^ payload.key_size ^ (payload.encrypt << 2)),
                    rows.eq(0),
                    state.eq(1),
                ]
        with m.Elif(state == 1):
            m.d.comb += context.material.ready.eq(may_take)
            with m.If(context.material.valid & context.material.ready):
                row = context.material.payload
                m.d.sync += [value.eq(value.rotate_left(1) ^ row[:32] ^ row[96:]), rows.eq(rows + 1)]
                with m.If(rows == MATERIAL_ROWS - 1):
                    m.d.sync += [state.eq(2), icv_left.eq(wanted), icv_right.eq(1)]
        with m.Elif(state == 2):
            m.d.comb += [
                give.eq((word.kind == Kind.TEXT) | ((word.kind == Kind.IV) & job.encrypt)),
                out.data.eq(Mux(word.kind == Kind.TEXT, text, word.data)),
                out.kind.eq(word.kind),
                out.count.eq(word.count),
                context.i.ready.eq(may_take & queue.w_rdy),
                queue.w_en.eq(give & context.i.valid & context.i.ready),
            ]
            with m.If(context.i.valid & context.i.ready):
                m.d.sync += value.eq(sum_)
                with m.If(word.kind == Kind.ICV):
                    m.d.sync += icv_left.eq(icv_left - word.count)
                    for lane in range(lanes):
                        with m.If((word.count > 4 * lane) & (word.data[32 * lane : 32 * lane + 32] != value)):
                            m.d.sync += icv_right.eq(0)
                with m.If(word.last):
                    m.d.sync += state.eq(3)
        with m.Elif(job.encrypt & (icv_left != 0)):
            count = Mux(icv_left > self.word_bytes, self.word_bytes, icv_left)
            m.d.comb += [
                out.data.eq(value.replicate(lanes)),
                out.kind.eq(Kind.ICV),
                out.count.eq(count),
                queue.w_en.eq(queue.w_rdy),
            ]
            with m.If(queue.w_rdy):
                m.d.sync += icv_left.eq(icv_left - count)
        with m.Else():
            m.d.comb += [
                context.result.valid.eq(may_give),
                context.result.payload.ok.eq(icv_right & (icv_left == 0)),
            ]
            with m.If(context.result.valid & context.result.ready):
                m.d.sync += state.eq(0)


def stand_in(**declared) -> type[StandIn]:
    """A :class:`StandIn` with other ``contexts``, ``word_bytes``, ``algorithms`` or ``pauses``."""
    return type("StandIn", (StandIn,), declared)
