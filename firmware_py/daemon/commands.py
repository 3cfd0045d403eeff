"""``spigate sas``, ``ike``, ``policies``, ``events``, ``initiate``, ``terminate``, ``rekey``: what an
operator asks a running gateway over its control socket."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spigate.firmware_py import terminal
from spigate.firmware_py.daemon.control_socket import CONTROL, ask

Arguments = Callable[[argparse.ArgumentParser], None]


class Command:
    """One subcommand.

    Parameters
    ----------
    name : str
        Of the request.
    arguments : callable or None
        Adds the subcommand's own arguments.
    empty : str
        What a person is told where there are no rows.
    """

    def __init__(self, name: str, arguments: Arguments | None = None, *, empty: str = ""):
        self._name, self._arguments, self._empty = name, arguments, empty

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        if self._arguments is not None:
            self._arguments(parser)
        parser.add_argument(
            "--socket", type=Path, default=Path(CONTROL), help=f"control socket of the gateway ({CONTROL})"
        )
        parser.add_argument("--json", action="store_true", help="JSON, one object a line, instead of a table")

    def run(self, args: argparse.Namespace) -> int:
        request: dict[str, object] = {"command": self._name}
        if "name" in args:
            peer, _, child = args.name.partition("/")
            request |= {"peer": peer, **({"child": child} if child else {})}
        if getattr(args, "follow", False):
            request["follow"] = True
        rows = ask(args.socket, **request)
        if args.json:
            for row in rows:
                print(json.dumps(row), flush=True)
        elif self._name == "events":
            _lines(rows)
        else:
            lines = terminal.table(list(rows), terminal.width())
            for line in lines:
                print(line)
            if self._empty and not lines:
                print(self._empty, file=sys.stderr)
        return 0


def _lines(rows: Iterator[dict[str, Any]]) -> None:
    for row in rows:
        who = "/".join(filter(None, (row["peer"], row["child"])))
        print(f"{row['time']} {row['kind']:13} {who}: {row['text']}", flush=True)


def _follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with what happens from now on")


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", type=_name, metavar="NAME", help="a peer, or PEER/CHILD for its child SAs of that name"
    )


def _name(text: str) -> str:
    if not text or text.startswith("/"):
        raise argparse.ArgumentTypeError(f"expected a peer, or PEER/CHILD, not {text!r}")
    return text


sas, ike = Command("sas", empty="no SAs"), Command("ike", empty="no IKE SAs")
policies = Command("policies", empty="no policies")
events = Command("events", _follow)
initiate, terminate, rekey = (Command(name, _named) for name in ("initiate", "terminate", "rekey"))
