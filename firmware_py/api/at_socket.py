# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``unix:PATH`` and ``serial:``: a gateway in hardware, or ``spigate simulate``, behind the socket or the
serial line that leads to its registers. What is at its ports is not here: frames go down and come up as the
control element's do.
"""

import asyncio

from spigate.firmware_py.api.inbox import Inbox, Packet
from spigate.firmware_py.api.links import Connect, Link, Url
from spigate.firmware_py.errors import InputError, SpigateError, UnsupportedError
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.interface import Tables
from spigate.firmware_py.tables.punt import InjectMode, Place
from spigate.firmware_py.tables.urls import Remote, check, open_remote
from spigate.hdl.contract.enums import Port


class AtSocket:
    """A :class:`~spigate.firmware_py.api.links.Link` to a gateway behind a socket. Make one with
    :meth:`open`.
    """

    def __init__(self, url: str, remote: Remote, driver: Driver):
        self.tables: Tables = driver
        self.inbox = Inbox()
        self._url, self._remote, self._driver = url, remote, driver
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def open(cls, url: str) -> "AtSocket":
        """Connects, and erases all tables: whatever stands there, nobody knows its keys any more. Errors as
        of :func:`~spigate.firmware_py.tables.urls.open_remote` and :meth:`Driver.open`.
        """
        remote = await open_remote(url)
        try:
            driver = await Driver.open(remote)
            if not remote.fresh:
                await driver.clear()
        except BaseException:
            await remote.close()
            raise
        return cls(url, remote, driver)

    async def _receive(self) -> None:
        while self.inbox.failure is None:
            try:
                header, frame = await self._remote.receive()
            except InputError:
                self.inbox.lost += 1  # a header that nobody here knows
            except BusError as error:
                self.inbox.fail(await self.explain(error))
            else:
                self.inbox.put(Packet(Port.CE, frame, header))
                self.inbox.lost += self._remote.take_lost().total()

    async def send(self, port: Port, frame: bytes) -> None:
        raise UnsupportedError(
            f"{self._url}: its port {port.name.lower()} is where its cable is, not here; inject() sends "
            "frames to it, and CLASSIFY treats one as if it had come in there"
        )

    async def inject(
        self, mode: InjectMode, port: Port, depth: int, frame: bytes, out_of: Place | None
    ) -> None:
        await self._remote.inject(mode, port, depth, frame, out_of)

    async def check(self) -> None:
        await self._driver.check()

    async def explain(self, error: BusError) -> SpigateError:
        return error

    async def close(self) -> None:
        try:
            if self.inbox.failure is None:
                await self._driver.take_back()
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        self._receiving.cancel()
        await self._remote.close()
        await asyncio.gather(self._receiving, return_exceptions=True)


def prepare(url: Url) -> Connect:
    """See :mod:`spigate.firmware_py.api.links`."""
    check(url.text)

    async def connect() -> Link:
        return await AtSocket.open(url.text)

    return connect
