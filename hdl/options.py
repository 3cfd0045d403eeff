# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The command line's options for a gateway's parameters: the same ones, with the same ranges, in every
command that makes a gateway. Nothing here needs Amaranth.
"""

import argparse
from typing import Any

from spigate.hdl.contract.parameters import DEFAULT_ENGINE, ENGINES, PARAMETERS, check


def add_gateway_arguments(
    parser: argparse.ArgumentParser, *, without: tuple[str, ...] = (), **defaults: int
) -> None:
    """Adds an option for each of :data:`~spigate.hdl.contract.parameters.PARAMETERS` but those in
    ``without``, and ``--engine``. ``defaults`` are other than those there.
    """
    group = parser.add_argument_group("gateway")
    for name, parameter in PARAMETERS.items():
        if name in without:
            continue
        default = defaults.get(name, parameter.default)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            default=default,
            metavar="N",
            help=f"{parameter.text}: {parameter.limits} (default {default})",
        )
    group.add_argument(
        "--engine",
        default=DEFAULT_ENGINE,
        choices=ENGINES,
        help=f"crypto engine of every lane: {', '.join(ENGINES)} (default {DEFAULT_ENGINE})",
        metavar="NAME",
    )


def gateway_options(args: argparse.Namespace, technology: str = "generic") -> tuple[dict[str, Any], str]:
    """What the options of :func:`add_gateway_arguments` say: parameters by name, and the engine's name.
    They are for ``technology``.

    Raises
    ------
    ValueError
        An option is out of its range; the message names it.
    """
    values = {name: getattr(args, name) for name in PARAMETERS if hasattr(args, name)}
    check(values, technology)
    return values, args.engine
