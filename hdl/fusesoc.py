# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The core for FuseSoC, in core files of its format CAPI2.

As a program this is the generator that ``hdl/generator.core`` declares: FuseSoC runs it with a YAML file that
says which parameters a design asks for, and reads the core file that it leaves beside the Verilog. ``spigate
export --fusesoc FILE`` writes the same core file, for whoever builds without Python.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
"""Of the checkout, where this file runs as a program."""
VENDOR = "spigate:ipsec"
"""Vendor and library in the names of core files."""
_CORE = """CAPI=2:
# SPDX-License-Identifier: Apache-2.0
# Made by spigate {version}.
name: {vlnv}
description: IPsec gateway with AXI4-Stream packet ports and AXI4-Lite registers
license: Apache-2.0
filesets:
  rtl:
    files: [{verilog}]
    file_type: verilogSource
targets:
  default:
    filesets: [rtl]
    toplevel: spigate
  lint:
    filesets: [rtl]
    toplevel: spigate
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall]
"""


def write_core(path: Path, verilog: Path, vlnv: str | None = None) -> Path:
    """Writes the core file of an exported core and returns its path.

    Parameters
    ----------
    path : Path
        The core file, beside the Verilog or in a folder above it.
    verilog : Path
        What :func:`~spigate.hdl.export.export` wrote, or will write.
    vlnv : str, optional
        The core's name: vendor, library, name and version. Without one the name is the file's.

    Raises
    ------
    ValueError
        The file is not called ``*.core``, or the Verilog is not below its folder; FuseSoC would find neither.
    """
    from spigate import __version__

    if path.suffix != ".core":
        raise ValueError(f"{path} must end in .core: FuseSoC finds core files by that")
    inside, folder = verilog.resolve(), path.resolve().parent
    if not inside.is_relative_to(folder):
        raise ValueError(f"{verilog} must be in the folder of {path}, or below it: FuseSoC looks only there")
    text = _CORE.format(
        version=__version__,
        vlnv=vlnv or f"{VENDOR}:{path.stem}:{__version__}",
        verilog=inside.relative_to(folder),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def generate(request: Mapping[str, Any], folder: Path) -> Path:
    """Writes ``spigate.v`` and its core file into ``folder`` and returns the core file.

    Parameters
    ----------
    request : mapping
        What FuseSoC tells a generator: ``vlnv``, and ``parameters``, which may be None. Those are parameters
        of :class:`~spigate.hdl.gateway.Gateway`, ``engine`` and ``technology``.
    folder : Path

    Raises
    ------
    ValueError
        A parameter is unknown or out of its range; the message names it.
    """
    from spigate.hdl.contract.parameters import DEFAULT_ENGINE, PARAMETERS, check
    from spigate.hdl.crypto.interface import engine_named
    from spigate.hdl.export import export
    from spigate.hdl.gateway import Gateway

    values = dict(request.get("parameters") or {})
    engine = engine_named(values.pop("engine", DEFAULT_ENGINE))
    technology = values.pop("technology", "generic")
    for name in values:
        if name not in PARAMETERS:
            raise ValueError(f"there is no parameter {name}; there are {_names(PARAMETERS)}")
    check(values, technology)
    verilog = export(Gateway(**values, engine=engine), folder / "spigate.v", technology=technology)
    return write_core(folder / "spigate.core", verilog, request["vlnv"])


def _names(parameters: Mapping[str, Any]) -> str:
    return ", ".join([*parameters, "engine", "technology"])


def main(argv: list[str]) -> int:
    """What FuseSoC runs: its one argument is the file with the request; files are written where it is run."""
    try:
        import yaml

        print(generate(yaml.safe_load(Path(argv[0]).read_text()), Path.cwd()))
    except ModuleNotFoundError as error:
        print(f"spigate: {error.name} is not installed: pip install '{TOP}[fusesoc]'", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"spigate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    # The gateware beside this file, whatever else is installed; and not this folder, whose modules have
    # common names.
    sys.path[0] = str(TOP)
    sys.exit(main(sys.argv[1:]))
