"""The register reference as HTML: ``python -m spigate.hdl.csr.reference FOLDER``."""

import argparse
import sys
from pathlib import Path

from peakrdl_html import HTMLExporter

from spigate.hdl.contract import rdl

MAPS = ("gateway", "entries")
"""Address maps that are documented: registers on the bus, and rows of table entries."""


def build(folder: Path) -> Path:
    """Writes the reference of :data:`MAPS` into ``folder`` and returns its first page."""
    HTMLExporter(show_signals=False).export(
        [rdl.tree(name) for name in MAPS], str(folder), title="spigate registers"
    )
    return folder / "index.html"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spigate.hdl.csr.reference", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write it")
    print(build(parser.parse_args(argv).folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
