# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway in hardware that goes away and comes back: a cable pulled out, a board without power.

What it holds is lost then: keys, and how far the sequence numbers were. So all is begun anew when it is
back, with empty tables, and SAs are negotiated again.
"""

import asyncio
import logging
import signal
from collections.abc import Callable

from spigate.firmware_py.daemon.logs import log
from spigate.firmware_py.daemon.loop import Daemon
from spigate.firmware_py.tables.bus import Gone, NotThere

RETRY_SECONDS = 1.0


async def run(make: Callable[[], Daemon]) -> None:
    """Runs what ``make`` makes until SIGTERM or SIGINT. Where the way to the gateway breaks, that is told
    once, and another one is made as soon as a gateway is there.

    Raises
    ------
    InputError
        Something else that it needs is not there, or the gateway is not at the beginning.
    BusError
        The gateway refuses something.
    """
    stopped = asyncio.Event()
    gone = False
    while True:
        running = asyncio.create_task(make().run())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in (running, stopping):
            if not task.done():
                task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
        if running.cancelled():
            return
        match running.exception():
            case None:
                return
            case Gone() as error:
                log(logging.ERROR, "gateway-gone", text=f"{error}; it is tried again until it is back")
                gone = True
            case NotThere() if gone:
                pass
            case error:
                raise error
        # A daemon at work has handlers of its own; what it leaves behind would stop nobody.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                await stopped.wait()
                return
        except TimeoutError:
            pass
