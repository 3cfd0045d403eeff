# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The registers, the enumerations and the headers of the control element's frames, for software in C:
``spigate export --c-header FILE``.

Offsets and masks of registers are PeakRDL's; what it does not know is added: the values of enumerations, and
the layouts of :class:`~spigate.hdl.net.descriptor.PuntHeader` and
:class:`~spigate.hdl.net.descriptor.InjectHeader`.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from amaranth.lib import data

from spigate.hdl.contract import rdl
from spigate.hdl.contract.ce_header import CE_HEADER_BYTES, CE_VERSION
from spigate.hdl.contract.constants import ALIGN
from spigate.hdl.net.descriptor import InjectHeader, PuntHeader

HEADERS = {"punt": PuntHeader, "inject": InjectHeader}
"""Layouts of frames' headers, by name."""
REGISTERS = ("gateway", "board")
"""Address maps of registers."""
_INCLUDED = "#include <assert.h>\n"
"""What stands before the definitions in a header of PeakRDL's."""
_END = "\n#ifdef __cplusplus\n}\n"


def write(path: Path) -> Path:
    """Writes the header to ``path`` and returns the path.

    Raises
    ------
    ValueError
        PeakRDL's exporter is not installed.
    """
    try:
        from peakrdl_cheader.exporter import CHeaderExporter
    except ImportError:
        raise ValueError(
            "The C header needs peakrdl-cheader, which is not installed: pip install peakrdl-cheader"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        texts = []
        for name in REGISTERS:
            CHeaderExporter().export(rdl.tree(name), str(made))
            texts.append(made.read_text())
    before, end, after = texts[0].rpartition(_END)
    others = [text.rpartition(_END)[0].partition(_INCLUDED)[2] for text in texts[1:]]
    added = "\n".join([*others, *_enumerations(), *_headers()])
    path.parent.mkdir(parents=True, exist_ok=True)
    # REUSE-IgnoreStart
    path.write_text(f"// SPDX-License-Identifier: Apache-2.0\n{before}\n{added}\n{end}{after}")
    # REUSE-IgnoreEnd
    return path


def _enumerations() -> Iterator[str]:
    for name, members in rdl.encodings().items():
        prefix = name.removesuffix("_e").upper()
        yield f"// enum - {name}"
        yield f"typedef enum spigate_{name} {{"
        yield from (f"    SPIGATE_{prefix}_{member.name} = {member.value}," for member in members)
        yield f"}} spigate_{name};\n"


def _headers() -> Iterator[str]:
    yield "// frames of the control element: a header, bytes of zero that align what follows, the frame"
    yield f"#define SPIGATE_CE_VERSION {CE_VERSION}"
    yield f"#define SPIGATE_CE_HEADER_BYTES {CE_HEADER_BYTES}"
    yield f"#define SPIGATE_CE_FRAME_offset {CE_HEADER_BYTES + ALIGN}\n"
    for name, layout in HEADERS.items():
        yield from _layout(name, layout())


def _layout(name: str, layout: data.StructLayout) -> Iterator[str]:
    """A packed struct, little-endian as the fields are. Fields of less than a byte share one, and have
    masks as registers have.
    """
    upper = f"SPIGATE_{name.upper()}"
    yield f"// header - {name}; fields of several bytes are little-endian"
    members: list[str] = []
    shared: list[str] = []
    for field, place in layout:
        if place.width % 8 == 0:
            size = place.width // 8
            members.append(
                f"    uint{place.width}_t {field};" if size <= 8 else f"    uint8_t {field}[{size}];"
            )
            yield f"#define {upper}__{field.upper()}_offset {place.offset // 8}"
            continue
        offset, bit = divmod(place.offset, 8)
        shared.append(field)
        yield f"#define {upper}__{field.upper()}_offset {offset}"
        yield f"#define {upper}__{field.upper()}_bm 0x{((1 << place.width) - 1) << bit:02x}"
        yield f"#define {upper}__{field.upper()}_bp {bit}"
        if bit + place.width == 8:
            members.append(f"    uint8_t {'_'.join(shared)};")
            shared = []
    yield "typedef struct __attribute__ ((__packed__)) {"
    yield from members
    yield f"}} spigate_{name}_header_t;"
    size = f"sizeof(spigate_{name}_header_t) == SPIGATE_CE_HEADER_BYTES"
    yield f'static_assert({size}, "{name} header");\n'


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
