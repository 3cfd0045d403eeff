"""``spigate ce``: runs the control element, with the software path as its data plane."""
import argparse
import asyncio
from pathlib import Path

from spigate.firmware_py.errors import UnsupportedError
from spigate.firmware_py.host import config, logs
from spigate.firmware_py.host.daemon import Daemon


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataplane", default="soft", help="who does ESP and AH: soft, this process (the default)")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="peers, policies and the host's device, in TOML")
    parser.add_argument("--check", action="store_true", help="only read the configuration, and say what is wrong with it")
    parser.add_argument("--key-log", type=Path, metavar="FOLDER",
                        help="write all keys there, for Wireshark: whoever reads them reads all traffic")


def run(args: argparse.Namespace) -> int:
    if args.dataplane != "soft":
        raise UnsupportedError(f"--dataplane must be soft, not {args.dataplane!r}: a gateway in hardware is not driven from here yet")
    read = config.read(args.config, key_log=args.key_log is not None)
    if args.check:
        print(f"{args.config}: {len(list(read.pad))} peers, {len(read.starts)} children, {len(read.policies) // 2} policies")
        return 0
    logs.set_up(read.log_format, read.log_level)
    asyncio.run(Daemon(read, args.key_log).run())
    return 0
