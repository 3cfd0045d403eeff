"""Makes ``enums.py`` of ``entries.rdl``: ``python -m spigate.hdl.contract.generate``, or ``make registers``."""
import textwrap

from spigate.hdl.contract import rdl

HEAD = '''"""The enumerations of ``entries.rdl``, for gateware and host.

Made by ``python -m spigate.hdl.contract.generate``: change them there.
"""
from enum import IntEnum'''
WIDTH = 100


def source() -> str:
    """The text of ``enums.py``."""
    parts = [HEAD]
    for name, members in rdl.encodings().items():
        parts += ["", "", f"class {rdl.class_name(name)}(IntEnum):", f'    """``{name}``"""', ""]
        for member, value, description in members:
            parts.append(f"    {member} = {value}")
            parts += textwrap.wrap(f'"""{description}"""', WIDTH, initial_indent="    ", subsequent_indent="    ") if description else []
    return "\n".join(parts) + "\n"


def main() -> None:
    (rdl.FOLDER / "enums.py").write_text(source())


if __name__ == "__main__":
    main()
