# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A stand-in for a crypto engine, to measure what stands around one: it takes 16 bytes a clock and context,
and leaves them as they are.
"""

from typing import Any

from amaranth.hdl import Module, Mux, Signal

from spigate.hdl.contract.enums import Auth
from spigate.hdl.crypto.engine import CompactEngine
from spigate.hdl.crypto.interface import MATERIAL_ROWS, Engine, Job, Kind

BREAKS = b"dead"
"""A packet of an SA with this salt breaks the context that it comes to: it takes nothing any more."""


class StandIn(Engine):
    """An engine whose cipher text is the plain text, whose ICV is zero, and to which every ICV is right."""

    contexts = 2
    word_bytes = 16
    algorithms = CompactEngine.algorithms

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for at, context in enumerate(self.context):
            self._context(m, context, at)
        return m

    def _context(self, m: Module, context: Any, at: int) -> None:
        # The next packet's job and material are taken while the present one runs.
        waiting, job = Signal(name=f"waiting_{at}"), Signal(Job(), name=f"job_{at}")
        rows = Signal(range(MATERIAL_ROWS + 1), name=f"rows_{at}")
        present = Signal(Job(), name=f"present_{at}")
        ready = waiting & (rows == MATERIAL_ROWS)
        m.d.comb += [context.job.ready.eq(~waiting), context.material.ready.eq(waiting & ~ready)]
        with m.If(context.job.valid & context.job.ready):
            m.d.sync += [waiting.eq(1), rows.eq(0), job.eq(context.job.payload)]
        with m.If(context.material.valid & context.material.ready):
            m.d.sync += rows.eq(rows + 1)

        word, out = context.i.payload, context.o
        with m.FSM(name=f"context_{at}"):
            with m.State("BEGIN"):
                with m.If(ready & (job.salt != int.from_bytes(BREAKS, "little"))):
                    m.d.sync += [present.eq(job), waiting.eq(0)]
                    m.next = "WORDS"
            with m.State("WORDS"):
                kept = (word.kind == Kind.TEXT) | ((word.kind == Kind.IV) & present.encrypt)
                m.d.comb += [
                    out.valid.eq(context.i.valid & kept),
                    out.payload.eq(word),
                    context.i.ready.eq(~kept | out.ready),
                ]
                with m.If(context.i.valid & context.i.ready & word.last):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += [
                    out.valid.eq(present.encrypt),
                    out.payload.kind.eq(Kind.ICV),
                    out.payload.count.eq(Mux(present.auth == Auth.HMAC_SHA1_96, 12, 16)),
                ]
                with m.If(~present.encrypt | out.ready):
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += [context.result.valid.eq(1), context.result.payload.ok.eq(1)]
                with m.If(context.result.ready):
                    m.next = "BEGIN"
