# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate simulate``: a simulated gateway that runs live, between two TAP devices, with its registers and
the packet port of its control element behind a UNIX socket (:mod:`spigate.firmware_py.tables.remote`), or
with a board's host link on a serial line.
"""

import argparse
import json
import os
import re
import signal
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from spigate.firmware_py import outputs, terminal
from spigate.firmware_py.daemon.links import Tap
from spigate.firmware_py.errors import InputError, SpigateError
from spigate.sim.design import add_configuration_arguments, add_simulator_arguments, configuration_from
from spigate.sim.waves import format_of

TESTBENCH = "spigate.sim.live_testbench"
SOCKET = Path("/run/spigate-gateway.sock")
_REPORT_BYTES = 1 << 16


class Ended(SpigateError):
    """The simulation ended by itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Simulates a gateway, live: frames come and go at two TAP devices, and its control element, "
        "spigate ce, "
        "reaches registers and punted frames through a UNIX socket, or a serial line. SIGINT or SIGTERM "
        "ends it."
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--socket",
        type=Path,
        default=SOCKET,
        metavar="PATH",
        help=f"UNIX socket for the control element, which only this user may use (default {SOCKET})",
    )
    way.add_argument(
        "--serial",
        type=Path,
        metavar="PATH",
        help="the board has a host link, and PATH leads to a pseudo-terminal onto its serial line, for "
        "--dataplane serial:PATH",
    )
    parser.add_argument(
        "--clocks-a-bit",
        type=int,
        default=4,
        metavar="N",
        help="of that line, 4 to 1000 (default 4, so that a simulation keeps up with it)",
    )
    for port in ("network", "server"):
        parser.add_argument(
            f"--{port}",
            type=_device,
            default=f"spigate-{port[0]}",
            metavar="DEVICE",
            help=f"TAP device that is made for its port {port}; it may be moved to another network namespace "
            f"(default spigate-{port[0]})",
        )
    add_configuration_arguments(parser)
    add_simulator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    configuration = configuration_from(args)
    if not 4 <= args.clocks_a_bit <= 1000:
        raise InputError(f"--clocks-a-bit must be 4 to 1000, not {args.clocks_a_bit}")
    path = args.serial or args.socket
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # in the middle of a build it ends as SIGINT does
    # What is wrong is said before anything is built.
    with (
        closing(Tap(args.network)) as network,
        closing(Tap(args.server)) as server,
        _terminal(path) if args.serial else _listener(path) as third,
    ):
        outputs.file(args.waveform)
        waves = format_of(args.waveform)
        model = configuration.model(
            simulator=args.simulator,
            waves=waves,
            tell=terminal.tell,
            clocks_a_bit=args.clocks_a_bit if args.serial else 0,
        )
        configuration.views(args.waveform)
        command, testbench = socket.socketpair()
        with command, testbench, _standard_input(testbench):
            socket.send_fds(command, [b"\0"], [file.fileno() for file in (network, server, third)])
            _on_signal(lambda: command.shutdown(socket.SHUT_WR))
            ready = f"{path}: a gateway between {args.network} and {args.server}"
            model.run(
                TESTBENCH,
                parameters={"serial": bool(args.serial)},
                waveform=args.waveform,
                on_progress=_once(lambda: print(ready, flush=True)),
            )
            report = json.loads(command.recv(_REPORT_BYTES))
    if "error" in report:
        raise Ended(report["error"])
    for name in ("counts", "dropped"):
        print(
            f"{name}: "
            f"{', '.join(f'{count} {what}' for what, count in sorted(report[name].items())) or 'none'}"
        )
    return 0


def _device(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", name):
        raise argparse.ArgumentTypeError(
            f"expected at most 15 letters, digits, dots, hyphens and underscores, not {name!r}"
        )
    return name


@contextmanager
def _listener(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at ``path``: keys go through it, so it is its owner's alone.

    Raises
    ------
    InputError
        Somebody else is there, or nothing can be there.
    """
    made = socket.socket(socket.AF_UNIX)
    with made:
        before = os.umask(0o177)
        try:
            _remove_dead(path)
            made.bind(str(path))
            made.listen()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from None
        finally:
            os.umask(before)
        try:
            yield made
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _terminal(path: Path) -> Iterator[BinaryIO]:
    """The master of a pseudo-terminal to whose slave ``path`` is a link meanwhile. Keys go through it, so it
    is its owner's alone: a system may let a group write to terminals.

    Raises
    ------
    InputError
        Nothing can be there.
    """
    master, slave = os.openpty()
    with os.fdopen(master, "r+b", buffering=0) as made:
        try:
            os.fchmod(slave, 0o600)
            tty.setraw(slave)
            if path.is_symlink():
                path.unlink()  # of a process that was killed, for two cannot have one gateway's devices
            path.symlink_to(os.ttyname(slave))
        except OSError as error:
            os.close(slave)
            raise InputError(f"{path}: {error.strerror or error}") from None
        try:
            yield made
        finally:
            path.unlink(missing_ok=True)
            os.close(slave)


def _remove_dead(path: Path) -> None:
    """Takes away the socket of a process that was killed."""
    if not path.is_socket():
        return  # where there is something else, bind says so
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise InputError(f"{path}: a gateway is running there already")


@contextmanager
def _standard_input(given: socket.socket) -> Iterator[None]:
    """Processes that are started meanwhile have it as their standard input, the one file that the simulator
    inherits.
    """
    before = os.dup(0)
    os.dup2(given.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def _on_signal(end: Callable[[], None]) -> None:
    """SIGINT and SIGTERM call ``end``, from now on, and reach neither this thread nor the simulator, which
    inherits the mask.
    """
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        end()

    threading.Thread(target=wait, daemon=True).start()


def _once(call: Callable[[], None]) -> Callable[[int, int], None]:
    """Does ``call`` the first time that there is progress."""
    calls = iter([call])
    return lambda *_: next(calls, lambda: None)()
