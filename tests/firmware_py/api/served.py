# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway in software behind registers and a UNIX socket: what a ``unix:`` link finds in hardware."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spigate.firmware_py.tables.model import Punted
from spigate.firmware_py.tables.punt import pack_punt, unpack_inject
from spigate.firmware_py.tables.remote import GREETING, Kind, Message, Messages, pack_words, unpack_words
from spigate.hdl.contract import rdl
from tests.firmware_py.tables.registers import RegisterGateway
from tests.firmware_py.tables.test_driver import registers

ERRORS = rdl.registers()["errors"].address


class Served:
    """Members
    -------
    url : str
    gateway : RegisterGateway
    hold : threading.Event
        While it is cleared, no request is answered.
    """

    def __init__(self, path: Path, **changes):
        self.url, self._path = f"unix:{path}", path
        self.gateway = RegisterGateway(registers(**changes), [])
        self.hold = threading.Event()
        self.hold.set()
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def sas(self) -> int:
        """SAs that stand in its tables."""
        return sum(map(len, self.gateway._sas))

    def refuse(self, **errors: int) -> None:
        """The register that tells what was refused tells that."""
        self.gateway.words[ERRORS] = rdl.registers()["errors"].pack(errors)

    def hang_up(self) -> None:
        """As a gateway whose cable is pulled out."""
        for writer in self._writers:
            self.loop.call_soon_threadsafe(writer.close)

    async def serve(self) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_unix_server(self._client, str(self._path))
        self.begun.set()
        await self.over.wait()
        server.close()

    async def _client(self, reader, writer) -> None:
        self._writers.append(writer)
        writer.write(GREETING)
        messages = Messages()
        while data := await reader.read(1 << 16):
            for message in messages.feed(data):
                while not self.hold.is_set():
                    await asyncio.sleep(0.01)
                await self._do(message, writer)
        writer.close()

    async def _do(self, message: Message, writer) -> None:
        if message.kind == Kind.INJECT:
            header, frame = unpack_inject(message.body)
            found = self.gateway.inject(header.mode, header.port, header.depth, frame, header.out_of)
            for each in found:
                if isinstance(each, Punted):
                    writer.write(Message(Kind.PUNT, pack_punt(each.header, each.frame)).pack())
            return
        if message.kind == Kind.READ:
            body = pack_words(await self.gateway.read(message.address, *unpack_words(message.body)))
        else:
            body = b""
            if message.address == ERRORS:
                self.gateway.words[ERRORS] &= ~unpack_words(message.body)[0]
            else:
                await self.gateway.write(message.address, unpack_words(message.body))
        writer.write(Message(message.kind, body, message.address).pack())


@contextmanager
def served(path: Path, **changes) -> Iterator[Served]:
    """One at ``path``, at work in a thread of its own. ``changes``: of its registers, by name."""
    made = Served(path, **changes)
    made.begun = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(made.serve()))
    thread.start()
    made.begun.wait()
    try:
        yield made
    finally:
        made.hold.set()
        made.loop.call_soon_threadsafe(made.over.set)
        thread.join()
