# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` with SAs keyed by hand, opposite Linux's own ESP and AH keyed by ``ip xfrm``, in a user-mode
Linux. Its SA in our direction has an anti-replay window, which finds out when a number comes twice.
"""

from contextlib import closing, contextmanager

import pytest

from tests.firmware_py.daemon.bed import Gateway, ping
from tests.firmware_py.daemon.board import PORTS, Board
from tests.firmware_py.ike.hosts import OURS, THEIRS

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
KEYS = {"out.key": "a1" * 16, "in.key": "b2" * 16, "out.auth": "c3" * 32, "in.auth": "d4" * 32}
HERE, THERE = "10.1.0.0/24", "10.2.0.0/24"
CONFIG = """
[host]
addresses = ["10.1.0.1/24"]
control = "CONTROL"
state = "state"
{tables}
[[policy]]
action = "protect"
sa = "b"
local = "{here}"
remote = "{there}"
"""
SA = """
[[sa]]
name = "b"
direction = "{direction}"
spi = {spi}
source = "{source}"
destination = "{destination}"
{more}
"""
ENDS = {"outbound": (OURS, THEIRS, 0x1001), "inbound": (THEIRS, OURS, 0x1000)}
CASES = {
    "ESP tunnel, AES-CBC": ("esp", "tunnel", "aes-cbc"),
    "ESP transport, NULL": ("esp", "transport", "null"),
    "AH tunnel": ("ah", "tunnel", ""),
    "AH transport": ("ah", "transport", ""),
}


def ours(protocol, mode, cipher):
    """A configuration."""
    tables = ""
    for direction, (source, destination, spi) in ENDS.items():
        side = direction[: -len("bound")]
        more = f'protocol = "{protocol}"\nmode = "{mode}"\n'
        more += f'cipher = "{cipher}"\n' if cipher else "ah_align = 8\n"
        more += f'key_file = "{side}.key"\n' if cipher == "aes-cbc" else ""
        more += f'auth = "hmac-sha256-128"\nauth_key_file = "{side}.auth"\n'
        tables += SA.format(direction=direction, spi=spi, source=source, destination=destination, more=more)
    here, there = (HERE, THERE) if mode == "tunnel" else (f"{OURS}/32", f"{THEIRS}/32")
    return CONFIG.format(tables=tables, here=here, there=there)


@contextmanager
def linux(uml, protocol, mode, cipher):
    """The user-mode Linux has the same SAs, the other way round."""
    here, there = (HERE, THERE) if mode == "tunnel" else (f"{OURS}/32", f"{THEIRS}/32")
    for direction, (source, destination, spi) in ENDS.items():
        side = direction[: -len("bound")]
        encrypts = {
            "aes-cbc": ("enc", "cbc(aes)", f"0x{KEYS[f'{side}.key']}"),
            "null": ("enc", "ecb(cipher_null)", ""),
            "": (),
        }[cipher]
        uml.run(
            *("ip", "xfrm", "state", "add", "src", source, "dst", destination, "proto", protocol),
            *("spi", hex(spi), "reqid", 7, "mode", mode, "replay-window", 32),
            *("auth-trunc", "hmac(sha256)", f"0x{KEYS[f'{side}.auth']}", 128),
            *encrypts,
        )
        networks = ("src", here, "dst", there) if direction == "outbound" else ("src", there, "dst", here)
        uml.run(
            *("ip", "xfrm", "policy", "add", *networks),
            *("dir", "in" if direction == "outbound" else "out"),
            *("tmpl", "src", source, "dst", destination, "proto", protocol, "reqid", 7, "mode", mode),
        )
    try:
        yield
    finally:
        for what in ("state", "policy"):
            uml.run("ip", "xfrm", what, "flush")


def with_keys(folder):
    """The folder, with the files of keys."""
    folder.mkdir(exist_ok=True)
    for name, key in KEYS.items():
        (folder / name).write_text(key + "\n")
        (folder / name).chmod(0o600)
    return folder


def gateway(uml, folder, text):
    return Gateway(uml.ours, with_keys(folder), text)


def refused(uml):
    """How many packets that kernel refused since it booted, by reason."""
    lines = uml.run("cat", "/proc/net/xfrm_stat").splitlines()
    counts = {name: int(count) for name, count in map(str.split, lines)}
    return {name: counts[name] for name in ("XfrmInStateSeqError", "XfrmInStateProtoError", "XfrmInNoStates")}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pings_pass_also_after_restarts(uml, tmp_path, case):
    """Ended in order, and killed; the peer, which was not restarted, takes each packet."""
    sizes = (0, 56, 500, 1300, 3000)
    with linux(uml, *case):
        numbers, before = [], refused(uml)
        for number in range(3):
            with closing(gateway(uml, tmp_path / "ce", ours(*case))) as made:
                made.start()
                made.happens("sa-up", 2)
                there = "10.2.0.1" if case[1] == "tunnel" else str(THEIRS)
                ping(uml.ours, there, sizes, source="10.1.0.1" if case[1] == "tunnel" else "")
                rows = {row["direction"]: row for row in made.rows("sas")}
                assert {row["protocol"] for row in rows.values()} == {case[0]}
                assert rows["outbound"]["packets"] >= len(sizes) <= rows["inbound"]["packets"]
                numbers.append(rows["outbound"]["sequence"])
                if number == 1:
                    made.kill()
        assert numbers == sorted(set(numbers))
        assert refused(uml) == before


def test_in_the_clear_nothing_is_taken_or_sent(uml, tmp_path):
    """Without the peer's SAs no ping comes back: nothing of the policy's traffic leaves unprotected, and what
    comes unprotected is dropped."""
    case = CASES["ESP tunnel, AES-CBC"]
    with closing(gateway(uml, tmp_path / "ce", ours(*case))) as made:
        made.start()
        made.happens("sa-up", 2)
        with pytest.raises(AssertionError, match="no answer"):
            ping(uml.ours, "10.2.0.1", (56,), timeout=1)


def test_hardware_keyed_by_hand(uml, tmp_path):
    """A server's pings, also after the control element was killed and came back. What is sent is not done in
    hardware, so nothing is sent without it.
    """
    case = CASES["ESP tunnel, AES-CBC"]
    text = ours(*case).replace('addresses = ["10.1.0.1/24"]\n', "", 1) + PORTS
    (tmp_path / "board").mkdir()
    with (
        Board(tmp_path / "board", uml, "--beat-bytes", "8", "--dfes", "1", "--lanes", "1") as board,
        linux(uml, *case),
    ):
        before = refused(uml)
        for killed in (True, False):
            with closing(board.control_element(with_keys(tmp_path / "ce"), text)) as made:
                made.start()
                made.happens("sa-up", 2)
                ping(board.server, "10.2.0.1", (56, 500, 1300), timeout=20)
                made.until(
                    lambda made=made: (
                        {row["direction"]: row["where"] for row in made.rows("sas")}["inbound"] == "DFE 0"
                    ),
                    "in the DFE",
                    30,
                )
                ping(board.server, "10.2.0.1", (56, 500, 1300), timeout=20)
                assert {row["where"] for row in made.rows("sas") if row["direction"] == "outbound"} != {
                    "DFE 0"
                }
                if killed:
                    made.kill()
                    with pytest.raises(AssertionError, match="no answer"):
                        ping(board.server, "10.2.0.1", (57,), timeout=1)
        assert refused(uml) == before
