# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The configuration reference, docs/configuration.md, from the schemas: ``python -m
spigate.firmware_py.daemon.reference``.
"""

import sys
import textwrap

from spigate.firmware_py.daemon import config, manual
from spigate.firmware_py.daemon import peer_keys as ike
from spigate.firmware_py.toml import Key, Schema

HEAD = """\
# Configuration

Made from the schemas in `firmware_py/daemon/` (`config.py`, `peers.py`, `manual.py`) by `make docs`;
change it there.

`spigate ce --config FILE` reads one file in TOML. `spigate ce --config FILE --check` only reads it, and
says what is wrong: file, key and what was expected. What it accepts also starts, as far as that does not
depend on the host. Names of files in it are relative to its folder. Secrets are in files of their own,
which are refused where others than their owner may read them. They, and certificates, are also refused
where somebody else than root and this user may write the file or a folder on the way to it, or owns it.

Algorithm words are strongSwan's, joined by hyphens, several of a kind being alternatives:
ciphers `aes128` `aes192` `aes256` (CBC), `...gcm16` `...gcm12` `...gcm8`, `...ccm16` `...ccm12` `...ccm8`,
`...ctr`, `...gmac`, `chacha20poly1305`, `null`;
integrity `sha256` `sha384` `sha512` `sha1`; prf `prfsha256` `prfsha384` `prfsha512`;
key exchange `ecp256` `ecp384` `ecp521` `curve25519` `modp2048` `modp3072` `modp4096`,
additional ones `ke1_mlkem768` and the like (RFC 9370);
`esn` and `noesn`.
"""
WIDTH = 110
"""Columns of a line that is no row of a table."""
SCHEMAS = (
    config.HOST,
    ike.IKE,
    ike.SERVER,
    ike.PEER,
    ike.RETRANSMISSION,
    ike.CHILD,
    ike.TRAFFIC,
    ike.LIFETIME,
    manual.SA,
    manual.POLICY,
    config.PORT,
    config.ROUTE,
    config.SOURCE,
    config.GATEWAY,
)


def text() -> str:
    """The whole reference, in Markdown."""
    return HEAD + "".join(map(_section, SCHEMAS))


def _section(schema: Schema) -> str:
    rows = "".join(
        f"| `{key.name}` | {_cell(key.expected)} | {_cell(_default(key))} | {_cell(key.text)} |\n"
        for key in schema.keys
    )
    words = textwrap.fill(schema.text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"\n## {schema.name}\n\n{words}\n\n| key | value | default | |\n|---|---|---|---|\n{rows}"


def _default(key: Key) -> str:
    if key.default is ...:
        return "must be given"
    if key.shown:
        return key.shown
    return "none" if key.default in (None, [], {}) else f"`{key.default}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    sys.stdout.write(text())
