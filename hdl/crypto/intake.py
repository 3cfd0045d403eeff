# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A context's next packet: its job and material are taken, and its keys made, while the present packet
runs.
"""

from enum import IntEnum

from amaranth.hdl import Array, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from spigate.hdl.contract.enums import Auth, Cipher
from spigate.hdl.crypto.interface import MATERIAL_ROWS, Algorithms, Job
from spigate.hdl.crypto.key_schedule import KeyOrder
from spigate.hdl.csr.layout import ROW_BITS


class Scheme(IntEnum):
    """What makes the ICV."""

    NONE = Auth.NONE
    HMAC_SHA1_96 = Auth.HMAC_SHA1_96
    HMAC_SHA256_128 = Auth.HMAC_SHA256_128
    GCM = 3

    @property
    def icv_words(self) -> int:
        """Length of the ICV in 32-bit words."""
        return {Scheme.NONE: 0, Scheme.HMAC_SHA1_96: 3}.get(self, 4)


def icv_words(scheme):
    """:attr:`Scheme.icv_words` of a signal."""
    return Array(Const(each.icv_words, 3) for each in Scheme)[scheme]


class Task(data.StructLayout):
    """A packet to work on, its keys expanded.

    Members
    -------
    cipher, encrypt, derive_iv, salt
        As in :class:`~spigate.hdl.crypto.interface.Job`.
    scheme : Scheme
    rounds : range(15)
        Of AES.
    bank : unsigned(1)
        Which of the context's two sets of round keys.
    """

    def __init__(self):
        super().__init__(
            {
                "cipher": 3,
                "encrypt": 1,
                "derive_iv": 1,
                "salt": 32,
                "scheme": unsigned(2),
                "rounds": range(15),
                "bank": 1,
            }
        )


class Intake(wiring.Component):
    """Takes jobs and material of one context and hands each part to whom it is for.

    Parameters
    ----------
    knows : Algorithms
        The jobs that come are of these.

    Members
    -------
    job : In(stream of Job)
    material : In(stream of unsigned(128))
    key_start : Out(stream of KeyOrder)
    key : Out(stream of unsigned(128))
        ``key_low`` and ``key_high``, where the cipher is AES.
    key_done : In(1)
        The keys are expanded.
    keys_in_use : In(2)
        Bit b: bank b is being read.
    hash_key : Out(stream of unsigned(128))
        For GHASH, where the cipher is GCM.
    hmac_start : Out(stream of {auth: unsigned(3)})
    midstate : Out(stream of unsigned(128))
        ``auth_0`` to ``auth_3``, where there is HMAC.
    task : Out(stream of Task)
    """

    def __init__(self, knows: Algorithms):
        self._knows = knows
        super().__init__(
            {
                "job": In(stream.Signature(Job())),
                "material": In(stream.Signature(ROW_BITS)),
                "key_start": Out(stream.Signature(KeyOrder())),
                "key": Out(stream.Signature(ROW_BITS)),
                "key_done": In(1),
                "keys_in_use": In(2),
                "hash_key": Out(stream.Signature(ROW_BITS)),
                "hmac_start": Out(stream.Signature(data.StructLayout({"auth": 3}))),
                "midstate": Out(stream.Signature(ROW_BITS)),
                "task": Out(stream.Signature(Task())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        job = Signal(Job())
        bank = Signal()
        row = Signal(range(MATERIAL_ROWS + 1))
        aes = Signal()
        hmac = Signal()
        scheme = Signal(Scheme)
        ordered = Signal()
        expanded = Signal()
        started = Signal()
        given = Signal()
        m.d.comb += [
            self.key_start.payload.key_size.eq(job.key_size),
            self.key_start.payload.bank.eq(bank),
            self.key_start.payload.decrypt.eq(
                (job.cipher == Cipher.AES_CBC) & ~job.encrypt if self._knows.cbc else 0
            ),
            self.hmac_start.payload.auth.eq(job.auth),
            self.task.payload.cipher.eq(job.cipher),
            self.task.payload.encrypt.eq(job.encrypt),
            self.task.payload.derive_iv.eq(job.derive_iv),
            self.task.payload.salt.eq(job.salt),
            self.task.payload.scheme.eq(scheme),
            self.task.payload.bank.eq(bank),
            self.task.payload.rounds.eq(Array((10, 12, 14, 14))[job.key_size]),
        ]
        for part in (self.key, self.hash_key, self.midstate):
            m.d.comb += part.payload.eq(self.material.payload)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                m.d.sync += [row.eq(0), ordered.eq(0), expanded.eq(0), started.eq(0), given.eq(0)]
                cipher, auth = self.job.payload.cipher, self.job.payload.auth
                is_gcm = cipher == Cipher.AES_GCM if self._knows.gcm else Const(0)
                m.d.sync += [
                    job.eq(self.job.payload),
                    aes.eq(is_gcm | (cipher == Cipher.AES_CBC)),
                    scheme.eq(Mux(is_gcm, Scheme.GCM, auth)),
                    hmac.eq(
                        ~is_gcm & ((auth == Auth.HMAC_SHA1_96) | (auth == Auth.HMAC_SHA256_128))
                        if self._knows.hmac
                        else 0
                    ),
                ]
                with m.If(self.job.valid):
                    m.d.sync += bank.eq(~bank)
                    m.next = "WORK"
            with m.State("WORK"):
                m.d.comb += [
                    self.key_start.valid.eq(aes & ~ordered & ~self.keys_in_use.bit_select(bank, 1)),
                    self.hmac_start.valid.eq(hmac & ~started),
                    self.task.valid.eq((expanded | ~aes) & ~given),
                ]
                m.d.sync += [
                    ordered.eq(ordered | self.key_start.valid & self.key_start.ready),
                    expanded.eq(expanded | self.key_done),
                    started.eq(started | self.hmac_start.valid & self.hmac_start.ready),
                    given.eq(given | self.task.valid & self.task.ready),
                ]
                with m.Switch(row):
                    with m.Case(0, 1):
                        with m.If(aes):
                            m.d.comb += [
                                self.key.valid.eq(self.material.valid & ordered),
                                self.material.ready.eq(self.key.ready & ordered),
                            ]
                        with m.Else():
                            m.d.comb += self.material.ready.eq(1)
                    with m.Case(2, 3, 4, 5):
                        with m.If(hmac):
                            m.d.comb += [
                                self.midstate.valid.eq(self.material.valid & started),
                                self.material.ready.eq(self.midstate.ready & started),
                            ]
                        with m.Elif((scheme == Scheme.GCM) & (row == 2)):
                            m.d.comb += [
                                self.hash_key.valid.eq(self.material.valid),
                                self.material.ready.eq(self.hash_key.ready),
                            ]
                        with m.Else():
                            m.d.comb += self.material.ready.eq(1)
                with m.If(self.material.valid & self.material.ready):
                    m.d.sync += row.eq(row + 1)
                with m.If((row == MATERIAL_ROWS) & given):
                    m.next = "IDLE"
        return m
