# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce``: runs the control element, with hardware or the software path as its data plane."""

import argparse
import asyncio
from pathlib import Path

from spigate.firmware_py.daemon import config, keylog, logs, recovery
from spigate.firmware_py.daemon.hardware import Hardware
from spigate.firmware_py.daemon.loop import Daemon
from spigate.firmware_py.daemon.software import Software
from spigate.firmware_py.errors import InputError
from spigate.firmware_py.tables import urls
from spigate.firmware_py.words import counted

SOFT = "soft"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataplane",
        default=SOFT,
        metavar="WHO",
        help="who does ESP and AH: soft, this process (the default); or a gateway in hardware: unix:PATH at "
        "that socket, or serial:///dev/DEVICE?baud=RATE at that serial line",
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="peers, policies, and the host's device or the hardware's ports, in TOML",
    )
    parser.add_argument(
        "--check", action="store_true", help="only read the configuration, and say what is wrong with it"
    )
    parser.add_argument(
        "--key-log",
        type=Path,
        metavar="FOLDER",
        help="write all keys there, for Wireshark: whoever reads them reads all traffic",
    )


def run(args: argparse.Namespace) -> int:
    if args.dataplane != SOFT:
        try:
            urls.check(args.dataplane)
        except InputError as error:
            raise InputError(f"--dataplane must be {SOFT}, or hardware's: {error}") from None
    read = config.read(args.config, key_log=args.key_log is not None)
    if args.dataplane != SOFT:
        Hardware.check(read)
    make = (
        Software if args.dataplane == SOFT else lambda config, clock: Hardware(config, clock, args.dataplane)
    )
    if args.check:
        Daemon(read, make, args.key_log)  # what is accepted here also runs
        if args.key_log is not None and args.key_log.exists():
            keylog.check(args.key_log)
        print(
            f"{args.config}: {counted(len(list(read.pad)), 'peer')}, "
            f"{counted(len(read.starts), 'child', 'children')}, "
            f"{counted(len(read.sas), 'SA')} keyed by hand, "
            f"{counted(len(read.policies) // 2, 'policy', 'policies')}"
        )
        return 0
    logs.set_up(read.log_format, read.log_level)
    asyncio.run(recovery.run(lambda: Daemon(read, make, args.key_log)))
    return 0
