# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The driver of boards against the gateware of their link, at bit level behind a pseudo-terminal."""

import asyncio
import os
import random
import subprocess
import sys
import time
import tty

import pytest

from spigate.firmware_py.errors import InputError, UnsupportedError
from spigate.firmware_py.tables import board_link, serial_wire, uartbone
from spigate.firmware_py.tables.board_link import BoardLink
from spigate.firmware_py.tables.bus import BusError, Gone
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.punt import InjectMode
from spigate.hdl.contract import rdl
from spigate.hdl.contract.constants import LINK_MAGIC, MAGIC
from spigate.hdl.contract.enums import Port
from tests.firmware_py.tables.link_board import running

BOARD, GATEWAY = rdl.registers("board"), rdl.registers()


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with running(tmp_path_factory.mktemp("board")) as terminal:
        yield terminal


def on(board, test):
    """Runs ``test(link)`` with a link to a board."""

    async def run():
        link = await BoardLink.open(f"serial:{board.path}")
        try:
            return await test(link)
        finally:
            await link.close()

    return asyncio.run(run())


async def of(link, name: str) -> int:
    return (await link.read(BOARD[f"link.{name}"].address))[0]


def test_registers_of_gateway_and_link_are_read(board):
    async def test(link):
        assert await link.read(GATEWAY["id"].address) == [MAGIC]
        assert await of(link, "id") == LINK_MAGIC
        assert len(await link.read(GATEWAY["drops"].address, 64)) == 64

    on(board, test)
