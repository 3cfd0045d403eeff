# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A socket at which something answers like a gateway's registers: no packet passes, and each test says what
is wrong with it.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spigate.firmware_py.tables.remote import GREETING, Kind, Message, Messages, pack_words, unpack_words
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import MAGIC, MAP, REPLAY_WINDOW

REGISTERS = rdl.registers()


def healthy() -> dict[int, int]:
    """Words of the capability registers of a small gateway, by address."""
    said = {
        "id": {"value": MAGIC},
        "version": {"map": MAP},
        "geometry": {"beat_bytes": 8, "dfes": 1, "lanes": 1, "contexts": 2},
        "dfe_tables": {"sa_entries": 256, "sources": 16},
        "cam": {"cam_entries": 1024, "cam_ways": 3, "row_bits": 9},
        "cfe_tables": {"rules": 32, "routes": 64},
        "algorithms": {"cipher_aes_gcm": 1, "key_aes128": 1, "gcm_icv16": 1},
        "features": {"tunnel": 1, "transport": 1, "replay_window": REPLAY_WINDOW},
        "event_geometry": {"depth": 64, "view": 8},
        "clock": {"khz": 50},
    }
    return {REGISTERS[name].address: REGISTERS[name].pack(fields) for name, fields in said.items()}


class Registers:
    """Words that are written and read back. The clock counts with each read of it, if it ``counts``."""

    def __init__(self, words: dict[int, int], *, counts: bool = True, silent_from: int | None = None):
        self.words, self._counts, self._silent_from = dict(words), counts, silent_from
        self.requests = 0

    def answer(self, message: Message) -> bytes | None:
        """What is sent back."""
        self.requests += 1
        if self._silent_from is not None and self.requests >= self._silent_from:
            return None
        if message.kind == Kind.INJECT:
            return None
        if message.kind == Kind.WRITE:
            for at, word in enumerate(unpack_words(message.body)):
                if (
                    not REGISTERS["table.data"].address
                    <= message.address + 4 * at
                    < REGISTERS["state.select"].address
                ):
                    self.words[message.address + 4 * at] = word
            return Message(Kind.WRITE, b"", message.address).pack()
        (count,) = unpack_words(message.body)
        time = REGISTERS["time"].address
        self.words[time] = self.words.get(time, 0) + 5000 * self._counts
        found = [self.words.get(message.address + 4 * at, 0) for at in range(count)]
        return Message(Kind.READ, pack_words(found), message.address).pack()


@contextmanager
def serving(path: Path, registers: Registers) -> Iterator[str]:
    """Its URL, as long as somebody may ask."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = Messages()
        writer.write(GREETING)
        while data := await reader.read(1 << 16):
            for message in messages.feed(data):
                answer = registers.answer(message)
                if answer is not None:
                    writer.write(answer)
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_unix_server(talk, path)
        ready.set()
        await over.wait()
        server.close()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())

    loop, ready, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        ready.wait()
        yield f"unix:{path}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.close()
