# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway in hardware goes away, and comes back."""

import asyncio
import logging
import os
import signal

import pytest

from spigate.firmware_py.daemon import recovery
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables.bus import BusError, Gone, NotThere


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(recovery, "RETRY_SECONDS", 0.02)


def run(*ends) -> int:
    """Runs daemons that end so, one after the other: an exception, None, or a coroutine function. How many
    there were.
    """
    made = []

    class Daemon:
        def __init__(self, end):
            self._end = end

        async def run(self):
            if isinstance(self._end, Exception):
                raise self._end
            if self._end is not None:
                await self._end()

    def make():
        made.append(Daemon(ends[len(made)]))
        return made[-1]

    asyncio.run(recovery.run(make))
    return len(made)


def test_one_that_ends_well_is_the_end():
    assert run(None) == 1


def test_it_is_told_once_and_tried_until_it_is_back(caplog):
    with caplog.at_level(logging.INFO, "spigate"):
        assert run(Gone("x: the gateway hung up"), NotThere("x: nobody"), NotThere("x: nobody"), None) == 4
    assert [(each.getMessage(), each.values["text"]) for each in caplog.records] == [
        ("gateway-gone", "x: the gateway hung up; it is tried again until it is back")
    ]


def test_each_time_that_it_goes_is_told(caplog):
    with caplog.at_level(logging.INFO, "spigate"):
        assert run(Gone("a"), NotThere("b"), Gone("c"), None) == 4
    assert [each.values["text"][0] for each in caplog.records] == ["a", "c"]


@pytest.mark.parametrize(
    "error", [NotThere("nobody"), InputError("no port"), BusError("refused"), ValueError()]
)
def test_at_the_beginning_all_else_is_the_end(error):
    with pytest.raises(type(error)):
        run(error)


@pytest.mark.parametrize("error", [InputError("no port"), BusError("refused"), ValueError()])
def test_what_is_not_the_gateways_absence_is_the_end_later_too(error):
    with pytest.raises(type(error)):
        run(Gone("a"), NotThere("b"), error)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", ["between", "while it opens"])
def test_a_signal_ends_it_while_there_is_no_gateway(monkeypatch, number, when):
    cleaned = []

    async def opening():
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(True)

    async def send():
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), number)
        raise Gone("away")

    if when == "between":
        monkeypatch.setattr(recovery, "RETRY_SECONDS", 30)
    assert run(send, opening) == (1 if when == "between" else 2)
    assert cleaned == [True] * (when != "between")
