# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Metrics over HTTP at 127.0.0.1: just enough HTTP for Prometheus, and no dependency."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from spigate.firmware_py.errors import InputError

REQUEST_SECONDS = 5.0
MOST_AT_ONCE = 16
"""Connections: any user of this host may make some, and each takes a file descriptor, which the gateway
needs too.
"""
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serve(port: int, text: Callable[[], str]) -> AsyncIterator[None]:
    """Answers ``GET /metrics`` with ``text()``. Raises InputError where somebody else has the port."""

    busy = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy
        if busy >= MOST_AT_ONCE:
            writer.close()
            return
        busy += 1
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_SECONDS)
            known = head.split(b" ", 2)[:2] == [b"GET", b"/metrics"]
            body = text().encode() if known else b"GET /metrics\n"
            writer.write(
                f"HTTP/1.1 {'200 OK' if known else '404 Not Found'}\r\nContent-Type: {_TYPE}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await asyncio.wait_for(writer.drain(), REQUEST_SECONDS)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # who asks hung up, or does not speak HTTP
        finally:
            busy -= 1
            writer.close()

    try:
        server = await asyncio.start_server(answer, "127.0.0.1", port)
    except OSError as error:
        raise InputError(f"TCP port {port} at 127.0.0.1, for metrics: {error.strerror}") from None
    try:
        yield
    finally:
        server.close()
