# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The command ``spigate``: one subcommand a module, imported only when it is called.

A subcommand's module, or object in a module, has ``add_arguments(parser)`` and ``run(args) -> int``. The
command ends with 0 when all is well, 1 when something was found to be wrong (a run that was not sound, a
figure that was missed), 2 when it was called wrongly or lacks something.
"""

import argparse
import importlib
import os
import select
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from spigate import __version__
from spigate.firmware_py.errors import InputError, SpigateError, ToolMissing, UnsupportedError, not_installed
from spigate.firmware_py.words import nearest

COMMANDS = {
    "replay": ("spigate.sim.replay", "sim", "play a capture of Linux's IPsec through a simulated gateway"),
    "simulate": (
        "spigate.sim.live",
        "sim",
        "a simulated gateway, live between two TAP devices, for spigate ce",
    ),
    "demo": ("spigate.sim.demo", "sim", "one CFE, three DFEs, three servers: a cold start on mixed traffic"),
    "bench": (
        "spigate.sim.bench",
        "sim",
        "measure the gateway in clocks, against its requirements, or the software path",
    ),
    "export": ("spigate.hdl.export", "hdl", "write the gateway as one plain Verilog file"),
    "build": ("spigate.boards.build", "boards", "build a board's bitstream"),
    "load": ("spigate.boards.load", "boards", "load a bitstream into a board"),
    "synth": ("spigate.boards.synth", "synth", "synthesise, place and route: LUTs, block RAM, MHz"),
    "ce": (
        "spigate.firmware_py.daemon.start",
        "",
        "run the control element: IKE, and ESP and AH in hardware or on this host",
    ),
    "selftest": (
        "spigate.firmware_py.selftest.command",
        "",
        "show whether a gateway in hardware works: tables, algorithms, counters",
    ),
    "sas": ("spigate.firmware_py.daemon.commands:sas", "", "show a running gateway's SAs of ESP and AH"),
    "ike": ("spigate.firmware_py.daemon.commands:ike", "", "show a running gateway's IKE SAs"),
    "policies": ("spigate.firmware_py.daemon.commands:policies", "", "show a running gateway's policies"),
    "events": ("spigate.firmware_py.daemon.commands:events", "", "show what happened at a running gateway"),
    "initiate": (
        "spigate.firmware_py.daemon.commands:initiate",
        "",
        "begin with a peer, or one of its children",
    ),
    "terminate": (
        "spigate.firmware_py.daemon.commands:terminate",
        "",
        "end all with a peer, or one of its children",
    ),
    "rekey": (
        "spigate.firmware_py.daemon.commands:rekey",
        "",
        "replace the IKE SA with a peer, or one of its children",
    ),
}
"""Name: module (and object), extra of the package that brings what it needs, and one line of help."""


class Subcommand(Protocol):
    """A module or an object of :data:`COMMANDS`."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class Wrong(InputError):
    """The command line is wrong; ``parser`` says how it goes."""

    def __init__(self, message: str, parser: "Parser"):
        super().__init__(message)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """Raises :class:`Wrong` instead of printing the usage, which is longer than what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise Wrong(message, self)

    def wrong(self, message: str, words: Sequence[str]) -> str:
        """What is wrong with ``words``: an option that is not there comes before one that is missing."""
        there = self._option_string_actions
        for word in (word.partition("=")[0] for word in words if word.startswith("--")):
            if not any(option.startswith(word) for option in there):
                near = nearest(word, there)
                return f"there is no option {word}" + (f"; do you mean {near}?" if near else "")
        return message


def parser(chosen: str | None = None) -> Parser:
    """The parser of the command line; of the subcommands only ``chosen`` has its arguments, for which its
    module is imported.
    """
    top = Parser(prog="spigate", description="An IPsec gateway for FPGAs.")
    top.add_argument("--version", action="version", version=f"spigate {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND [ARGS]", required=True)
    for name, (module, _, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == chosen:
            loaded = _loaded(module)
            loaded.add_arguments(command)
            command.set_defaults(run=loaded.run, refuse=command.error)
    return top


def _loaded(name: str) -> Subcommand:
    """The module, or the object in it behind a colon. Raises ModuleNotFoundError that names what the module
    itself lacks, which ``pkgutil.resolve_name`` would hide."""
    module, _, attribute = name.partition(":")
    loaded = importlib.import_module(module)
    found: Subcommand = getattr(loaded, attribute) if attribute else loaded
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv:
        argv = ["--help"]
    chosen = next((word for word in argv if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        near = nearest(chosen, COMMANDS)
        advice = f"do you mean {near}?" if near else "spigate --help shows them"
        return _fail(None, f"there is no command {chosen}; {advice}", 2)
    code = 0
    try:
        args, unknown = parser(chosen).parse_known_args(argv)
        if unknown:
            args.refuse(f"it takes no {' '.join(unknown)}")
        run: Callable[[argparse.Namespace], int] = args.run
        code = run(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it is still told what is wrong with it
        return code
    except BrokenPipeError as error:
        return code if _nobody_reads() else _fail(chosen, error, 2)
    except Wrong as error:
        told = error.parser.wrong(str(error), argv)
        return _fail(chosen, f"{told}{'' if told.endswith('?') else f' ({error.parser.prog} --help)'}", 2)
    except (InputError, UnsupportedError, ToolMissing) as error:
        return _fail(chosen, error, 2)
    except OSError as error:
        return _fail(
            chosen, f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error, 2
        )
    except SpigateError as error:
        return _fail(chosen, error, 1)
    except ValueError as error:
        return _fail(chosen, error, 2)
    except ModuleNotFoundError as error:
        return _fail(chosen, not_installed(error, COMMANDS[chosen][1] if chosen in COMMANDS else ""), 2)
    except KeyboardInterrupt:
        return _fail(chosen, "stopped", 130)


def _nobody_reads() -> bool:
    """Whether whoever read standard output has seen enough, as ``head`` and ``grep -q`` have; then nothing
    more is written there.
    """
    asked = select.poll()
    asked.register(sys.stdout.fileno(), 0)
    if not asked.poll(0):
        return False
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return True


def _fail(command: str | None, message: object, code: int) -> int:
    # Amaranth warns of each component that was made and not used. Where an error has ended the work, that is
    # no mistake of whoever made them.
    if (amaranth := sys.modules.get("amaranth.hdl")) is not None:
        warnings.simplefilter("ignore", amaranth.UnusedElaboratable)
    print(f"{' '.join(filter(None, ('spigate', command)))}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
