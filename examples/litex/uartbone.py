# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A host at the UART of a simulated LiteX design: what litex_server and RemoteClient are to a board."""

import csv
from pathlib import Path

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import FallingEdge, Timer

WRITE, READ = 1, 2  # commands of LiteX's UARTBone


class Uartbone:
    """32-bit words at byte addresses, as spigate's driver wants them. ``bit``: of the UART, in ns.

    A write has no answer, and what the core refuses reads as 0 here: see the register ``errors``.
    """

    def __init__(self, rx, tx, bit: int, base: int = 0):
        self.rx, self.tx, self.bit, self.base = rx, tx, bit, base
        self.got = Queue()
        rx.value = 1
        cocotb.start_soon(self._listen())

    def at(self, base: int) -> "Uartbone":
        """The same host, with addresses from ``base`` on."""
        other = object.__new__(Uartbone)
        other.__dict__ = {**self.__dict__, "base": base}
        return other

    async def read(self, address: int, count: int = 1) -> list[int]:
        await self._send(bytes([READ, count]) + self._word(address))
        return [int.from_bytes([await self.got.get() for _ in range(4)], "big") for _ in range(count)]

    async def write(self, address: int, words: list[int]) -> None:
        data = b"".join(word.to_bytes(4, "big") for word in words)
        await self._send(bytes([WRITE, len(words)]) + self._word(address) + data)

    def _word(self, address: int) -> bytes:
        return ((self.base + address) // 4).to_bytes(4, "big")

    async def _send(self, data: bytes) -> None:
        for byte in data:
            for value in (0, *(byte >> at & 1 for at in range(8)), 1):
                self.rx.value = value
                await Timer(self.bit, "ns")

    async def _listen(self) -> None:
        while True:
            await FallingEdge(self.tx)
            await Timer(self.bit // 2, "ns")
            byte = 0
            for at in range(8):
                await Timer(self.bit, "ns")
                byte |= int(self.tx.value) << at
            self.got.put_nowait(byte)
            await Timer(self.bit, "ns")


def addresses() -> dict[str, int]:
    """Addresses of the design's CSRs and regions by name, as LiteX wrote them."""
    rows = csv.reader(Path("csr.csv").read_text().splitlines())
    return {row[1]: int(row[2], 16) for row in rows if row[0] in ("csr_register", "memory_region")}
