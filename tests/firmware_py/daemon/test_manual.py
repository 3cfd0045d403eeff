# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""SAs that are keyed by hand: their configuration, their sequence numbers over restarts, their end."""

import json
import multiprocessing
import re
from collections import Counter, OrderedDict
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spigate.firmware_py.control.settings import Settings
from spigate.firmware_py.daemon import config, manual_keying
from spigate.firmware_py.daemon.hardware import Hardware
from spigate.firmware_py.daemon.manual_keying import ManualKeying
from spigate.firmware_py.daemon.plane import Plane
from spigate.firmware_py.daemon.sequence_file import LAST, NAME, SequenceFile, UsedUp
from spigate.firmware_py.errors import InputError, UnsupportedError
from spigate.firmware_py.ike.engine.actions import Event, EventKind, InstallSa, RemoveSa
from spigate.firmware_py.ike.peers.pad import Pad
from spigate.firmware_py.ipsec.packet import checksum
from spigate.firmware_py.ipsec.policy import PolicyAction, PolicyDirection
from spigate.firmware_py.ipsec.sa import Auth, Cipher, Lifetime
from spigate.firmware_py.toml import ConfigError
from spigate.hdl.contract.enums import Direction, Mode, Port
from spigate.hdl.contract.protocols import AH
from tests.firmware_py.control.network import PEER, SELF, Bench, from_server, udp
from tests.firmware_py.ipsec import foreign_esp

KEYS = {"out.key": "00" * 15 + "01", "out.auth": "00" * 31 + "02", "in.key": "00" * 15 + "03"}
KEYS |= {
    "both": "06" * 32,
    "in.auth": "00" * 31 + "04",
    "sha1": "05" * 20,
    "odd": "012",
    "words": "secret words",
}
SAS = f"""
[[sa]]
name = "right"
direction = "outbound"
spi = 0x1001
source = "{SELF}"
destination = "{PEER}"
cipher = "aes-cbc"
key_file = "out.key"
auth = "hmac-sha256-128"
auth_key_file = "out.auth"

[[sa]]
name = "right"
direction = "inbound"
spi = 0x1000
source = "{PEER}"
destination = "{SELF}"
cipher = "aes-cbc"
key_file = "in.key"
auth = "hmac-sha256-128"
auth_key_file = "in.auth"
"""
POLICY = """
[[policy]]
action = "protect"
sa = "right"
local = "10.2.0.0/24"
remote = "10.1.0.0/24"
"""
TEXT = SAS + POLICY
DOCS = Path(__file__).parents[3] / "docs"
OUT, IN = Direction.OUTBOUND, Direction.INBOUND


@pytest.fixture
def read(tmp_path):
    """Reads a configuration in whose folder stand the files of keys."""
    for name, text in KEYS.items():
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)

    def make(text):
        (tmp_path / "spigate.toml").write_text(text)
        return config.read(tmp_path / "spigate.toml")

    return make


def test_a_pair_and_its_policy(read, tmp_path):
    made = read('[host]\nstate = "kept"\n' + TEXT)
    out, back = (each.sa for each in made.sas)
    assert (out.direction, out.spi, out.cipher, out.key[-1], out.auth_key[-1]) == (
        OUT,
        0x1001,
        Cipher.AES_CBC,
        1,
        2,
    )
    assert (back.direction, back.mode, back.replay_window, back.esn) == (IN, Mode.TUNNEL, 0, False)
    assert made.state == tmp_path / "kept"
    sends, takes = made.policies
    assert (sends.direction, takes.direction) == (PolicyDirection.OUT, PolicyDirection.IN)
    assert sends.action == takes.action == PolicyAction.PROTECT
    assert sends.selectors.source == takes.selectors.destination == ip_network("10.2.0.0/24")
    for policy, one, other in ((sends, out, back), (takes, back, out)):
        (template,) = policy.templates
        assert template.accepts(one) and not template.accepts(other)


def test_everything_else_of_an_sa(read):
    text = SAS.replace('cipher = "aes-cbc"\nkey_file = "out.key"', 'protocol = "ah"\nmode = "transport"')
    text = text.replace(
        '"hmac-sha256-128"\nauth_key_file = "out.auth"', '"hmac-sha1-96"\nauth_key_file = "sha1"'
    )
    more = 'soft = { packets = 5 }\nhard = { seconds = 9 }\nmtu = 1400\ndf = "set"\ncopy_tos = false\n'
    more += "outer_tos = 8\nouter_ttl = 3\nah_align = 8\nreplay_window = 128\n"
    sa = read(text.replace("spi = 0x1001\n", "spi = 0x1001\n" + more)).sas[0].sa
    assert (sa.protocol, sa.mode, sa.auth, sa.ah_align) == (AH, Mode.TRANSPORT, Auth.HMAC_SHA1_96, 8)
    assert (sa.soft, sa.hard) == (Lifetime(packets=5), Lifetime(seconds=9))
    assert (sa.mtu, sa.copy_tos, sa.outer_tos, sa.outer_ttl) == (1400, False, 8, 3)


COUNTERS = [each.value for each in Cipher if each not in (Cipher.NULL, Cipher.AES_CBC)]
MISTAKES = {
    **{
        f"counter {name}": (
            TEXT.replace('"aes-cbc"', f'"{name}"', 1),
            rf"key sa\[0\].cipher: expected aes-cbc or null, because a cipher that counts must not be keyed by "
            rf"hand \(RFC 8221 3\), not '{name}'$",
        )
        for name in COUNTERS
    },
    "unknown cipher": (TEXT.replace('"aes-cbc"', '"aes_cbc"'), "not 'aes_cbc'; the nearest is 'aes-cbc'$"),
    "extended numbers": (
        TEXT.replace("spi = 0x1001", "spi = 0x1001\nesn = true"),
        r"key sa\[0\].esn: unknown key; ",
    ),
    "misspelt": (
        TEXT.replace("spi = 0x1001", "spy = 0x1001"),
        r"key sa\[0\].spy: unknown key; the nearest known one is spi$",
    ),
    "policy's misspelt": (
        TEXT.replace('local = "10', 'locale = "10'),
        r"key policy\[0\].locale: unknown key; the nearest known one is local$",
    ),
    "no SPI": (
        TEXT.replace("spi = 0x1001", "spi = 255"),
        r"key sa\[0\].spi: expected a number, 256 to 4294967295, not 255",
    ),
    "no name": (TEXT.replace('name = "right"', 'name = ""'), r"key sa\[0\].name: expected a name of at most"),
    "one name twice": (
        TEXT.replace('"inbound"', '"outbound"'),
        r"key sa\[1\].name: expected another one than the other outbound SA's, not 'right'",
    ),
    "one SPI twice": (
        TEXT.replace(f'destination = "{SELF}"', f'destination = "{PEER}"').replace("0x1000", "0x1001"),
        r"key sa\[1\].spi: expected another one than that of outbound ESP SA 0x00001001 to",
    ),
    "one key twice": (
        TEXT.replace('"in.key"', '"out.key"'),
        r"key sa\[1\].key_file: expected a key of its own, because outbound ESP SA 0x00001001 to .* has this",
    ),
    "one key for both purposes": (
        TEXT.replace('"out.key"', '"both"').replace('"out.auth"', '"both"'),
        r"key sa\[0\].auth_key_file: expected a key of its own, because key_file has this one",
    ),
    "one key for two": (
        TEXT.replace('"in.auth"', '"out.auth"'),
        r"key sa\[1\].auth_key_file: expected a key of its own",
    ),
    "length": (
        TEXT.replace('"out.key"', '"sha1"'),
        r"key sa\[0\]: key must be 16 or 24 or 32 bytes for aes-cbc, not '20 bytes'",
    ),
    "odd": (
        TEXT.replace('"out.key"', '"odd"'),
        r"key sa\[0\].key_file: expected hexadecimal digits, two a byte, in the file, not .*odd'",
    ),
    "words": (TEXT.replace('"out.auth"', '"words"'), r"key sa\[0\].auth_key_file: expected hexadecimal"),
    "no key": (TEXT.replace('key_file = "out.key"\n', "", 1), r"key sa\[0\]: key must be .* not '0 bytes'"),
    "no file": (
        TEXT.replace('"out.key"', '"none"'),
        r"key sa\[0\].key_file: expected a file that can be read",
    ),
    "both families": (
        TEXT.replace(f'source = "{SELF}"', 'source = "2001:db8::1"'),
        r"key sa\[0\]: destination must be an IPv6 address",
    ),
    "soft after hard": (
        TEXT.replace("spi = 0x1001", "spi = 0x1001\nsoft = { bytes = 9 }\nhard = { bytes = 8 }"),
        r"key sa\[0\]: soft bytes must be at most hard bytes, 8, not 9",
    ),
    "lifetime": (
        TEXT.replace("spi = 0x1001", "spi = 0x1001\nhard = { hours = 1 }"),
        r"key sa\[0\].hard.hours: unknown key; ",
    ),
    "no SA": (
        TEXT.replace('sa = "right"', 'sa = "left"'),
        r"key policy\[0\].sa: expected one of right, because the action is protect, not 'left'",
    ),
    "no SAs": (POLICY, r"key policy\[0\].sa: expected an SA, \[\[sa\]\], but there is none"),
    "nothing named": (
        TEXT.replace('sa = "right"\n', ""),
        r"key policy\[0\].sa: expected one of right, .* not nothing",
    ),
    "one direction": (
        SAS[: SAS.rindex("[[sa]]")] + POLICY,
        r"key policy\[0\].sa: expected one that has an inbound \[\[sa\]\] too, not 'right'",
    ),
    "bypass with an SA": (
        TEXT.replace('"protect"', '"bypass"'),
        r"key policy\[0\].sa: expected nothing, because the action is bypass, not 'right'",
    ),
    "no list": ("[sa]\n", r"key sa: expected tables, \[\[sa\]\]"),
    "state": ('[host]\nstate = ""', "key host.state: expected the name of a folder"),
}


@pytest.mark.parametrize("text, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(read, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(text)
    assert not any(key in str(caught.value) for key in KEYS.values())


def test_keys_that_others_may_read_are_refused(read, tmp_path):
    read(TEXT)
    (tmp_path / "out.key").chmod(0o640)
    with pytest.raises(
        ConfigError, match=r"key sa\[0\].key_file: expected a file that only its owner may read"
    ):
        config.read(tmp_path / "spigate.toml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(TEXT) - 1), st.integers(0, 40), st.text(max_size=6))
def test_only_named_errors_escape(read, at, count, text):
    try:
        read(TEXT[:at] + text + TEXT[at + count :])
    except ConfigError:
        pass


def test_the_guide_has_a_pair_that_is_accepted(read):
    (text,) = re.findall(r"```toml\n(.*?)```", (DOCS / "operating.md").read_text(), re.S)
    assert [each.sa.direction for each in read(text).sas] == [OUT, IN]


# Sequence numbers


@pytest.fixture
def sa(read):
    return read(TEXT).sas[0].sa


def test_no_number_is_leased_twice(sa, tmp_path):
    folder = tmp_path / "state"
    assert SequenceFile(folder).lease(sa, 100) == (0, 100)
    assert SequenceFile(folder).lease(sa, 10) == (100, 10)
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700
    text = (folder / NAME).read_text()
    assert sa.key.hex() not in text and sa.auth_key.hex() not in text


def test_other_keys_and_spis_have_numbers_of_their_own(sa, tmp_path):
    file = SequenceFile(tmp_path / "state")
    for each in (sa, replace(sa, spi=0x1002), replace(sa, key=bytes(16), auth_key=bytes(32))):
        assert file.lease(each, 7) == (0, 7)
    assert file.lease(replace(sa, source=ip_address("192.0.2.9")), 7) == (7, 7), "the IVs would be the same"


@pytest.mark.parametrize("other", [{"key": bytes(16)}, {"auth_key": bytes(32)}])
def test_one_new_key_of_two_is_not_enough_to_begin_again(sa, tmp_path, other):
    file = SequenceFile(tmp_path / "state")
    assert file.lease(sa, 7) == (0, 7)
    assert file.lease(replace(sa, **other), 7) == (7, 7)
    assert file.lease(sa, 7) == (14, 7), "and so it is the other way round"


@pytest.mark.parametrize("gone", [True, False])
def test_a_file_that_goes_back_gives_no_numbers(sa, tmp_path, gone):
    path = tmp_path / "state" / NAME
    file = SequenceFile(tmp_path / "state")
    file.lease(sa, 7)
    old = path.read_text()
    file.lease(sa, 7)
    path.unlink() if gone else path.write_text(old)
    with pytest.raises(InputError, match="were used are no longer in it; .* needs new keys, and so does its"):
        file.lease(sa, 7)
    other = replace(sa, key=bytes(16), auth_key=bytes(32))
    assert file.lease(other, 7) == (0, 7), "of others it has lost nothing"


def test_numbers_end(sa, tmp_path):
    file = SequenceFile(tmp_path / "state")
    assert file.lease(sa, LAST - 5) == (0, LAST - 5)
    assert file.lease(sa, 100) == (LAST - 5, 5)
    with pytest.raises(
        UsedUp, match="outbound ESP SA 0x00001001 .* has used up its sequence numbers: it needs new"
    ):
        file.lease(sa, 1)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": -1}', '{"a": true}', '{"a": 4294967296}', "\xff", "[" * 9999]
)
def test_a_file_that_is_damaged_gives_no_numbers(sa, tmp_path, text):
    file = SequenceFile(tmp_path / "state")
    file.lease(sa, 1)
    (tmp_path / "state" / NAME).write_text(text, encoding="latin-1")
    with pytest.raises(
        InputError, match=f"{NAME}: expected the sequence numbers .* give all of them new keys"
    ):
        file.lease(sa, 1)


def test_a_folder_that_others_may_enter_gives_no_numbers(sa, tmp_path):
    (tmp_path / "state").mkdir(mode=0o755)
    with pytest.raises(InputError, match=r"expected a folder that only its owner may enter \(chmod 700\)"):
        SequenceFile(tmp_path / "state").lease(sa, 1)


def test_two_processes_get_different_numbers(sa, tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(_lease, [(tmp_path / "state", sa)] * 40)
    assert sorted(found) == [(10 * at, 10) for at in range(40)]


def _lease(folder, sa):
    return SequenceFile(folder).lease(sa, 10)


# At work in software


class Host:
    """One gateway in software with SAs keyed by hand. ``restart()``: it was killed, and is back."""

    def __init__(self, made, folder):
        self.made, self.folder, self.now = made, folder, 0.0
        self.restart()

    def restart(self):
        self.plane = Plane(Pad(), (), self.made.policies, clock=lambda: self.now)
        self.keying = ManualKeying(self.made.sas, SequenceFile(self.folder), self._state)
        self.plane.on_expired = lambda sa, hard: self.keying.expired(sa, hard=hard)
        self.told = []
        self.keying.start(self.now)
        self.settle()

    def _state(self, sa):
        return next((each.state for each in self.plane.sas if each.sa == sa), None)

    def settle(self):
        for output in self.keying.take():
            if isinstance(output, Event):
                self.told.append((output.kind, output.child, output.text))
            else:
                self.plane.apply(output)

    def later(self, seconds):
        self.now += seconds
        assert self.keying.next_timer is not None and self.keying.next_timer <= self.now
        self.keying.tick(self.now)
        self.settle()

    def send(self, count=1):
        """The ESP packets for so many packets from here."""
        sent = []
        for _ in range(count):
            sent += self.plane.send(udp("10.2.0.10", "10.1.0.10"))
            self.settle()
        return sent

    def kinds(self):
        return [kind for kind, *_ in self.told]


def numbers(packets):
    return [int.from_bytes(packet[24:28]) for packet in packets]


def test_a_foreign_peer_opens_what_is_sent_and_is_understood(read, tmp_path):
    made = read(TEXT)
    host = Host(made, tmp_path / "state")
    out, back = (each.sa for each in made.sas)
    (packet,) = host.send()
    inner, kind = foreign_esp.opened(out, packet[20:])
    assert (kind, inner[16:20]) == (4, ip_address("10.1.0.10").packed) and numbers([packet]) == [1]
    answer = udp("10.1.0.10", "10.2.0.10")
    body = foreign_esp.sealed(back, 1, answer, 4)
    head = packet[:2] + (20 + len(body)).to_bytes(2) + packet[4:10] + bytes(2) + packet[16:20] + packet[12:16]
    head = head[:10] + checksum(head).to_bytes(2) + head[12:]
    assert host.plane.receive(head + body) == answer
    other = foreign_esp.sealed(back, 2, udp("10.9.0.10", "10.2.0.10"), 4)
    assert host.plane.receive(head + other) is None and host.plane.drops["policy"] == 1


def test_after_a_restart_no_number_and_no_iv_comes_twice(read, tmp_path):
    host = Host(read(TEXT), tmp_path / "state")
    sent = host.send(5)
    for _ in range(3):
        host.restart()
        sent += host.send(5)
    assert len(set(numbers(sent))) == len({packet[28:44] for packet in sent}) == 20
    assert numbers(sent) == sorted(numbers(sent)), "a peer with a window takes them"


def test_a_lease_is_renewed_and_none_is_exceeded(read, tmp_path, monkeypatch):
    monkeypatch.setattr(manual_keying, "LEASE", 8)
    host = Host(read(TEXT), tmp_path / "state")
    sent = numbers(host.send(40))
    assert len(set(sent)) == 40 and sent == sorted(sent) and host.kinds() == [EventKind.SA_UP] * 2
    assert json.loads((tmp_path / "state" / NAME).read_text()).popitem()[1] >= sent[-1]


def test_without_somebody_who_renews_it_a_lease_ends(read, tmp_path, monkeypatch):
    monkeypatch.setattr(manual_keying, "LEASE", 8)
    host = Host(read(TEXT), tmp_path / "state")
    host.plane.on_expired = lambda sa, hard: None
    assert numbers(host.send(20)) == list(range(1, 9))
    host.restart()
    assert numbers(host.send(1)) == [9]


def test_numbers_that_are_used_up_end_an_sa(read, tmp_path, monkeypatch):
    monkeypatch.setattr(manual_keying, "LEASE", 8)
    made = read(TEXT)
    SequenceFile(tmp_path / "state").lease(made.sas[0].sa, LAST - 10)
    host = Host(made, tmp_path / "state")
    assert numbers(host.send(20)) == [*range(LAST - 9, LAST - 5), LAST - 1, LAST]
    assert host.kinds() == [EventKind.SA_UP] * 2 + [EventKind.SA_WORN, EventKind.SA_FAILED]
    assert "has used up its sequence numbers" in host.told[-1][2]
    host.restart()
    assert host.kinds() == [EventKind.SA_FAILED, EventKind.SA_UP] and not host.send()


def test_a_disk_that_takes_nothing_ends_an_sa_when_its_lease_ends(read, tmp_path, monkeypatch):
    monkeypatch.setattr(manual_keying, "LEASE", 8)
    host = Host(read(TEXT), tmp_path / "state")
    (tmp_path / "state").chmod(0o755)
    assert len(host.send(20)) == 8
    assert host.kinds()[-2:] == [EventKind.SA_WORN, EventKind.SA_FAILED]
    with pytest.raises(InputError, match="expected a folder that only its owner may enter"):
        host.restart()


def test_a_file_that_goes_back_ends_an_sa_when_its_lease_ends(read, tmp_path, monkeypatch):
    monkeypatch.setattr(manual_keying, "LEASE", 8)
    host = Host(read(TEXT), tmp_path / "state")
    sent = host.send(6)
    (tmp_path / "state" / NAME).unlink()
    sent += host.send(30)
    assert numbers(sent) == sorted(set(numbers(sent))) and host.kinds()[-1] == EventKind.SA_FAILED
    assert "no longer in it" in host.told[-1][2]


LIMITED = TEXT.replace("spi = 0x1001", "spi = 0x1001\nsoft = { SOFT }\nhard = { HARD }")


@pytest.mark.parametrize("lease", [8, 1 << 22])
def test_lifetimes_in_packets_hold_over_leases(read, tmp_path, monkeypatch, lease):
    monkeypatch.setattr(manual_keying, "LEASE", lease)
    text = LIMITED.replace("SOFT", "packets = 13").replace("HARD", "packets = 29")
    host = Host(read(text), tmp_path / "state")
    assert len(host.send(12)) == 12 and EventKind.SA_WORN not in host.kinds()
    assert len(host.send(1)) == 1 and host.kinds().count(EventKind.SA_WORN) == 1
    assert len(host.send(40)) == 16 and host.kinds()[2:] == [EventKind.SA_WORN, EventKind.SA_DOWN]
    assert host.told[-1][1:] == (
        "right",
        "outbound ESP SA 0x00001001 to 192.0.2.1 has ended: its lifetime is over",
    )
    assert [each.sa.direction for each in host.plane.sas] == [IN] and host.plane.drops


def test_lifetimes_in_seconds(read, tmp_path):
    text = LIMITED.replace("SOFT", "seconds = 5").replace("HARD", "seconds = 8")
    host = Host(read(text), tmp_path / "state")
    host.later(5)
    assert host.kinds()[2:] == [EventKind.SA_WORN] and host.send()
    host.later(3)
    assert host.kinds()[3:] == [EventKind.SA_DOWN] and not host.send() and host.keying.next_timer is None


def test_what_cannot_be_done_is_told(read, tmp_path):
    made = read(TEXT)
    keying = ManualKeying(made.sas, SequenceFile(tmp_path / "state"), lambda sa: None)
    keying.start(0)
    installs = [each for each in keying.take() if isinstance(each, InstallSa)]
    assert keying.undone(installs[0], InputError("no room"))
    (event,) = keying.take()
    assert (event.kind, event.text) == (
        EventKind.SA_FAILED,
        "outbound ESP SA 0x00001001 to 192.0.2.1 cannot be used: no room",
    )
    other = replace(made.sas[1].sa, spi=0x9999)
    assert not keying.undone(RemoveSa(other), InputError("x")) and not keying.expired(other, hard=True)


# At work in hardware, of which the tables are a model


class Board(Bench):
    """As :class:`Host`, with the data plane of hardware around a control element on tables."""

    def __init__(self, made, folder):
        super().__init__(policies=made.policies, settings=Settings())
        self.told, self.plane = [], Hardware(made, lambda: self.now, "unix:none")
        self.plane._control = self.control
        self.plane._active = OrderedDict()
        self.plane._waiting = SimpleNamespace(child_is_up=lambda peer, child: None, tick=lambda now: None)
        self.plane._gateway = SimpleNamespace(take_lost=Counter)
        self.plane._counting = SimpleNamespace(look=_nothing)
        self.plane._driver = SimpleNamespace(check=_nothing)
        self.plane._ports = SimpleNamespace(confirm=lambda: None)
        self.keying = ManualKeying(made.sas, SequenceFile(folder), self._state)
        self.plane._hooks = SimpleNamespace(
            expired=lambda sa, hard: self.keying.expired(sa, hard=hard), alive=lambda spi: None
        )
        self.keying.start(0)
        self.settle()

    def _state(self, sa):
        return next((each.state for each in self.plane.sas if each.sa == sa), None)

    def settle(self):
        for output in self.keying.take():
            if isinstance(output, Event):
                self.told.append(output.kind)
            else:
                self.do(self.plane._apply(output))

    def poll(self):
        self.do(self.plane._poll())
        self.settle()

    def send(self, count=1):
        frames, _ = self.feed(Port.SERVER, *[from_server(udp("10.2.0.10", "10.1.0.10"))] * count)
        return [frame[14:] for frame in frames]


async def _nothing():
    pass


def test_in_front_of_hardware_what_is_sent_is_done_in_software(read, tmp_path, monkeypatch):
    """Hardware has no last number, and goes on when nobody looks: it never gets the SA."""
    monkeypatch.setattr(manual_keying, "LEASE", 8)
    made = read(TEXT)
    board = Board(made, tmp_path / "state")
    written = []
    write = board.gateway.write_sa

    async def watched(dfe, index, sa, *args, **more):
        written.append(sa)
        await write(dfe, index, sa, *args, **more)

    monkeypatch.setattr(board.gateway, "write_sa", watched)
    sent = board.send(3)
    for packet in sent:
        foreign_esp.opened(made.sas[0].sa, packet[20:])
    assert numbers(sent) == [1, 2, 3]
    where = {each.sa.direction: each.where for each in board.plane.sas}
    assert not where[OUT].startswith("DFE "), where
    assert numbers(board.send(20)) == [4, 5, 6, 7, 8], "nobody looked, so it stopped"
    board.poll()
    assert numbers(board.send(1)) == [9] and board.told == [EventKind.SA_UP] * 2
    assert not [sa for sa in written if sa.direction == OUT]
    again = Board(made, tmp_path / "state")
    assert numbers(again.send()) == [17]


def test_no_table_takes_an_sa_with_a_last_number(read, tmp_path):
    """Whoever writes it: a row has no room for that number, so it would be lost."""
    board = Board(read(TEXT), tmp_path / "state")
    (out,) = (each.sa for each in board.plane.sas if each.sa.direction == OUT)
    assert out.last_sequence == manual_keying.LEASE
    with pytest.raises(UnsupportedError, match="a last sequence number"):
        board.do(board.gateway.write_sa(0, 0, out, None))


def test_hardware_lifetimes(read, tmp_path, monkeypatch):
    monkeypatch.setattr(manual_keying, "LEASE", 8)
    text = LIMITED.replace("SOFT", "packets = 10").replace("HARD", "packets = 15")
    board = Board(read(text), tmp_path / "state")
    sent = []
    for _ in range(30):
        sent += board.send(1)
        board.poll()
    assert len(sent) == 15 and board.told[2:] == [EventKind.SA_WORN, EventKind.SA_DOWN]
