"""``spigate sas``, ``ike``, ``policies``, ``events``, ``initiate``, ``terminate``, ``rekey``: what an operator asks a
running gateway over its control socket."""
import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spigate.firmware_py.errors import InputError
from spigate.firmware_py.host.control import CONTROL, ask

Arguments = Callable[[argparse.ArgumentParser], None]


class Command:
    """One subcommand.

    Parameters
    ----------
    name : str
        Of the request.
    arguments : callable or None
        Adds the subcommand's own arguments.
    """

    def __init__(self, name: str, arguments: Arguments | None = None):
        self._name, self._arguments = name, arguments

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        if self._arguments is not None:
            self._arguments(parser)
        parser.add_argument("--socket", type=Path, default=Path(CONTROL), help=f"control socket of the gateway ({CONTROL})")
        parser.add_argument("--json", action="store_true", help="JSON, one object a line, instead of a table")

    def run(self, args: argparse.Namespace) -> int:
        request = {"command": self._name}
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
            _table(rows)
        return 0


def _lines(rows: Iterator[dict]) -> None:
    for row in rows:
        who = "/".join(filter(None, (row["peer"], row["child"])))
        print(f"{row['time']} {row['kind']:13} {who}: {row['text']}", flush=True)


def _table(rows: Iterable[dict]) -> None:
    rows = list(rows)
    if not rows:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(name, justify="right" if isinstance(rows[0][name], int) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    Console().print(table)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _follow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with what happens from now on")


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", type=_name, metavar="NAME", help="a peer, or PEER/CHILD for its child SAs of that name")


def _name(text: str) -> str:
    if not text or text.startswith("/"):
        raise InputError(f"NAME must be a peer, or PEER/CHILD, not {text!r}")
    return text


sas, ike, policies = Command("sas"), Command("ike"), Command("policies")
events = Command("events", _follow)
initiate, terminate, rekey = (Command(name, _named) for name in ("initiate", "terminate", "rekey"))
