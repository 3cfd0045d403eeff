# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``sim:``: a simulated gateway for scripts (:mod:`spigate.firmware_py.api`), in a simulator that is started
for it and ends with it. It is the one of ``spigate simulate``, with sockets of the script's in the place of
TAP devices.
"""

import asyncio
import json
import logging
import shutil
import signal
import socket
import tempfile
import threading
from dataclasses import fields
from pathlib import Path

from spigate.firmware_py.api.at_socket import AtSocket
from spigate.firmware_py.api.inbox import Packet
from spigate.firmware_py.api.links import Connect, Link, Url
from spigate.firmware_py.errors import InputError, SpigateError, Unsound
from spigate.firmware_py.tables.bus import BusError
from spigate.firmware_py.tables.driver import Driver
from spigate.firmware_py.tables.remote import RemoteGateway
from spigate.hdl.contract.enums import Port
from spigate.hdl.contract.parameters import DEFAULT_ENGINE, ENGINES
from spigate.sim import waves
from spigate.sim.build import SIMULATORS, Model
from spigate.sim.design import Configuration

LOG = logging.getLogger("spigate.sim")
TESTBENCH = "spigate.sim.live_testbench"
DEFAULTS = {"dfes": 1, "lanes": 1, "beat_bytes": 8}
"""The smallest gateway: it is compiled soonest."""
OPTIONS = {
    field.name.replace("_", "-"): type(field.default)
    for field in fields(Configuration)
    if field.name not in ("stand_in", "clock_khz")
}
"""Of the gateway, with the types of their values."""
PORTS = (Port.NETWORK, Port.SERVER)
MAX_BYTES = 4096
"""Longest frame that the simulator's bus models play: see :mod:`spigate.sim.board`."""
END_SECONDS = 60.0
"""So long a simulator may take to end."""
_REPORT_BYTES = 1 << 16


class Simulator:
    """The simulator's process, and the sockets that lead into it.

    Members
    -------
    ended : asyncio.Event
        It runs no more.
    failure : SpigateError or None
        Why it ended by itself.
    """

    def __init__(self, model: Model, waveform: Path | None):
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.failure: SpigateError | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="spigate-"))  # its owner's alone, for keys go through it
        self.socket = self._folder / "gateway"
        self.ports: dict[Port, socket.socket] = {}
        self._report = b""
        self._thread = threading.Thread(target=self._run, args=(model, waveform), daemon=True)

    async def start(self) -> None:
        """Starts it, and returns when it has its sockets. SpigateError where it ends before."""
        with socket.socket(socket.AF_UNIX) as waiting, socket.socket(socket.AF_UNIX) as listener:
            try:
                for each, path in ((waiting, self._folder / "command"), (listener, self.socket)):
                    each.bind(str(path))
                    each.listen()
                    each.setblocking(False)
            except OSError as error:
                shutil.rmtree(self._folder, ignore_errors=True)
                raise InputError(f"{self._folder}: {error}; TMPDIR may name another folder") from None
            self._thread.start()
            self._command = await self._accepted(waiting)
            theirs = {}
            for port in PORTS:
                self.ports[port], theirs[port] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.ports[port].setblocking(False)
            socket.send_fds(
                self._command, [b"\0"], [*(theirs[port].fileno() for port in PORTS), listener.fileno()]
            )
            for each in theirs.values():
                each.close()
        self._reading = asyncio.create_task(self._read_report())

    async def _accepted(self, waiting: socket.socket) -> socket.socket:
        accepting, ended = (
            asyncio.ensure_future(self._loop.sock_accept(waiting)),
            asyncio.ensure_future(self.ended.wait()),
        )
        try:
            await asyncio.wait((accepting, ended), return_when=asyncio.FIRST_COMPLETED)
            if not accepting.done():
                raise self.failure or Unsound("the simulator ended before it began")
            return accepting.result()[0]
        finally:
            accepting.cancel()
            ended.cancel()

    async def _read_report(self) -> None:
        try:
            while data := await self._loop.sock_recv(self._command, _REPORT_BYTES):
                self._report += data
        except OSError:
            pass  # it died, and model.run says of what

    async def end(self) -> None:
        """Lets it end. Raises what it ends with, if that is not well."""
        self._command.shutdown(socket.SHUT_WR)
        await self.outcome()
        for each in (self._command, *self.ports.values()):
            self._loop.remove_reader(each)
            each.close()
        if self.failure is not None:
            raise self.failure

    async def outcome(self) -> None:
        """Waits for its end: then ``failure`` says how it was."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await self.ended.wait()
                await self._reading
        except TimeoutError:
            self.failure = self.failure or Unsound(f"the simulator did not end within {END_SECONDS:.0f} s")
        error = json.loads(self._report).get("error") if self._report else None
        if error and self.failure is None:
            self.failure = Unsound(error)

    def _run(self, model: Model, waveform: Path | None) -> None:
        # The simulator inherits the mask: Ctrl-C ends the script, which ends the simulator.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            model.run(
                TESTBENCH,
                parameters={"command": str(self._folder / "command"), "guard_may_stop": True},
                waveform=waveform,
            )
        except SpigateError as error:
            self.failure = error
        except Exception as error:
            self.failure = Unsound(f"the simulator did not run: {error!r}")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            try:
                self._loop.call_soon_threadsafe(self.ended.set)
            except RuntimeError:
                pass  # the script has ended in the middle


class Scripted(AtSocket):
    """A :class:`~spigate.firmware_py.api.links.Link` to a simulated gateway, whose ports are here."""

    def __init__(self, url: str, remote: RemoteGateway, driver: Driver, simulator: Simulator):
        super().__init__(url, remote, driver)
        self._simulator, self._loop = simulator, asyncio.get_running_loop()
        for port, each in simulator.ports.items():
            self._loop.add_reader(each, self._arrive, port, each)

    def _arrive(self, port: Port, at: socket.socket) -> None:
        try:
            frame = at.recv(_REPORT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            frame = b""
        if frame:
            self.inbox.put(Packet(port, frame))
        else:
            self._loop.remove_reader(at)

    async def send(self, port: Port, frame: bytes) -> None:
        if len(frame) > MAX_BYTES:
            raise InputError(f"a frame must have at most {MAX_BYTES} bytes, not {len(frame)}")
        try:
            await self._loop.sock_sendall(self._simulator.ports[port], frame)
        except OSError:
            raise await self.explain(BusError(f"{self._url}: the simulator hung up")) from None

    async def explain(self, error: BusError) -> SpigateError:
        if self._remote.failure is not None:
            await self._simulator.outcome()
        return self._simulator.failure or error

    async def close(self) -> None:
        # Its tables end with it.
        try:
            await self._hang_up()
        finally:
            await self._simulator.end()


def prepare(url: Url) -> Connect:
    """See :mod:`spigate.firmware_py.api.links`. Builds the model, which takes minutes the first time."""
    options = url.options({**OPTIONS, "simulator": str, "waveform": Path})
    simulator, waveform = options.pop("simulator", SIMULATORS[0]), options.pop("waveform", None)
    chosen = {name.replace("-", "_"): value for name, value in options.items()}
    for name, value, known in (
        ("simulator", simulator, SIMULATORS),
        ("engine", chosen.get("engine", DEFAULT_ENGINE), ENGINES),
    ):
        if value not in known:
            raise InputError(f"{url.text}: {name} must be one of {', '.join(known)}, not {value!r}")
    try:
        model = Configuration(**{**DEFAULTS, **chosen}).model(
            simulator=simulator, waves=waves.format_of(waveform), tell=LOG.info
        )
    except SpigateError:
        raise
    except ValueError as error:
        raise InputError(f"{url.text}: {error}") from None

    async def connect() -> Link:
        running = Simulator(model, waveform)
        await running.start()
        try:
            remote = await RemoteGateway.open(f"unix:{running.socket}")
            return Scripted(url.text, remote, await Driver.open(remote), running)
        except BaseException:
            await running.end()
            raise

    return connect
