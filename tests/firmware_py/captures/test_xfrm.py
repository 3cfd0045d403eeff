# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

# ruff: noqa: E101 (ip prints tabs)
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.captures import xfrm
from spigate.firmware_py.captures.xfrm import parse_policies, parse_states
from spigate.firmware_py.captures.xfrm_text import XfrmError
from spigate.firmware_py.ipsec.policy import PolicyAction, PolicyDirection
from spigate.firmware_py.ipsec.sa import AH, ESP, Auth, Cipher, Encapsulation, Lifetime, Selectors
from spigate.hdl.contract.enums import Df, Direction, Mode

LOCAL = {ip_address("192.0.2.2"), ip_address("2001:db8::2")}
CAPTURES = Path(__file__).parents[2] / "data" / "captures"

# As iproute2 6.1 prints them: `ip xfrm state` and, with lifetimes and statistics, `ip -s xfrm state`.
GCM = """\
src 192.0.2.1 dst 192.0.2.2
	proto esp spi 0x7d2f38ab reqid 1 mode tunnel
	replay-window 0 
	aead rfc4106(gcm(aes)) 0x6bb3a7f11512020a421c634521d5941daa4acfea 128
	anti-replay esn context:
	 seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0
	 replay_window 64, bitmap-length 2
	 00000000 00000000 
	sel src 0.0.0.0/0 dst 0.0.0.0/0 
"""
DETAILED = """\
src 192.0.2.2 dst 192.0.2.1
	proto esp spi 0x00001000(4096) reqid 7(0x00000007) mode transport
	replay-window 32 seq 0x00000000 flag nopmtudisc noecn (0x00000000)
	mark 0x1/0xffffffff
	auth-trunc hmac(sha1) 0x59230f99d8a2e852fa17c7758c53718df17163b0 (160 bits) 96
	enc cbc(aes) 0xf40047e32de8d91a696c226f50774e8d (128 bits)
	anti-replay context: seq 0x0, oseq 0x2a, bitmap 0x00000000
	sel src 10.2.0.0/24 dst 10.1.0.9/32 proto udp sport 53 dport 1234 uid 0
	lifetime config:
	  limit: soft 1000(bytes), hard (INF)(bytes)
	  limit: soft (INF)(packets), hard 20(packets)
	  expire add: soft 60(sec), hard 90(sec)
	  expire use: soft 0(sec), hard 0(sec)
	lifetime current:
	  4208(bytes), 17(packets)
	  add 2026-11-24 14:55:14 use 2026-11-24 14:55:17
	stats:
	  replay-window 0 replay 0 failed 0
"""


AEAD = "aead rfc4106(gcm(aes)) 0x6bb3a7f11512020a421c634521d5941daa4acfea 128"


def one_state(text, **changes):
    (sa,) = parse_states(text, LOCAL, file="x.txt", **changes)
    return sa


def test_reads_a_state():
    sa = one_state(GCM)
    assert (sa.direction, sa.spi, sa.reqid) == (Direction.INBOUND, 0x7D2F38AB, 1)
    assert (sa.mode, sa.protocol) == (Mode.TUNNEL, ESP)
    assert (sa.cipher, sa.key.hex(), sa.salt.hex(), sa.icv_bytes) == (
        Cipher.AES_GCM,
        "6bb3a7f11512020a421c634521d5941d",
        "aa4acfea",
        16,
    )
    assert (sa.auth, sa.replay_window, sa.sequence, sa.selectors, sa.esn) == (Auth.NONE, 64, 0, None, False)


def test_reads_a_state_with_everything():
    sa = one_state(DETAILED)
    assert (sa.direction, sa.mode, sa.spi, sa.reqid) == (Direction.OUTBOUND, Mode.TRANSPORT, 4096, 7)
    assert (sa.auth, sa.cipher, len(sa.auth_key)) == (Auth.HMAC_SHA1_96, Cipher.AES_CBC, 20)
    assert (sa.replay_window, sa.sequence, sa.df, sa.copy_tos) == (32, 42, Df.CLEAR, False)
    assert sa.soft == Lifetime(bytes=1000, seconds=60) and sa.hard == Lifetime(packets=20, seconds=90)
    assert sa.selectors == Selectors(
        ip_network("10.2.0.0/24"), ip_network("10.1.0.9/32"), 17, (53, 53), (1234, 1234)
    )


@pytest.mark.parametrize(
    ("line", "cipher", "key", "salt", "icv"),
    [
        ("aead rfc4106(gcm(aes)) 0x{} 96", Cipher.AES_GCM, 32, 4, 12),
        ("aead rfc4543(gcm(aes)) 0x{} 128", Cipher.AES_GMAC, 16, 4, 16),
        ("aead rfc4309(ccm(aes)) 0x{} 64", Cipher.AES_CCM, 16, 3, 8),
        ("aead rfc7539esp(chacha20,poly1305) 0x{} 128", Cipher.CHACHA20_POLY1305, 32, 4, 16),
    ],
)
def test_knows_the_aeads(line, cipher, key, salt, icv):
    sa = one_state(GCM.replace(AEAD, line.format(bytes(range(key + salt)).hex())))
    assert (sa.cipher, sa.key, sa.salt, sa.icv_bytes) == (
        cipher,
        bytes(range(key)),
        bytes(range(key, key + salt)),
        icv,
    )


@pytest.mark.parametrize(
    ("bits", "name", "auth", "size"),
    [
        (96, "sha1", Auth.HMAC_SHA1_96, 20),
        (128, "sha256", Auth.HMAC_SHA256_128, 32),
        (192, "sha384", Auth.HMAC_SHA384_192, 48),
        (256, "sha512", Auth.HMAC_SHA512_256, 64),
    ],
)
@pytest.mark.parametrize(
    ("cipher_line", "cipher"),
    [
        ("enc cbc(aes) 0x" + 32 * "01", Cipher.AES_CBC),
        ("enc ecb(cipher_null)", Cipher.NULL),
        ("enc rfc3686(ctr(aes)) 0x" + 36 * "01", Cipher.AES_CTR),
    ],
)
def test_knows_the_hmacs(bits, name, auth, size, cipher_line, cipher):
    line = f"auth-trunc hmac({name}) 0x{bytes(size).hex()} {bits}\n\t{cipher_line}"
    sa = one_state(GCM.replace(AEAD, line))
    assert (sa.auth, sa.cipher) == (auth, cipher)


def test_reads_ah_natt_esn_and_ipv6():
    hmac_line = "auth-trunc hmac(sha1) 0x59230f99d8a2e852fa17c7758c53718df17163b0 96"
    assert one_state(GCM.replace("proto esp", "proto ah").replace(AEAD, hmac_line)).protocol == AH
    natt = GCM.replace(
        "\tanti-replay", "\tencap type espinudp sport 4500 dport 4501 addr 0.0.0.0\n\tanti-replay"
    )
    assert one_state(natt).encapsulation == Encapsulation(4500, 4501)
    esn = GCM.replace("replay-window 0 ", "replay-window 0 flag esn")
    esn = esn.replace("seq-hi 0x0, seq 0x0", "seq-hi 0x1, seq 0x5")
    assert (one_state(esn).esn, one_state(esn).sequence) == (True, 1 << 32 | 5)
    v6 = (
        GCM.replace("192.0.2.1", "2001:db8::1")
        .replace("192.0.2.2", "2001:db8::2")
        .replace("0.0.0.0/0", "::/0")
    )
    assert one_state(v6).destination == ip_address("2001:db8::2")


RECEIVED = {"esp-tunnel-gcm128-replay": 42, "esp-tunnel-gcm128-corrupt": 29, "esp-tunnel-gcm256-esn-wrap": 22}


@pytest.mark.parametrize("name", RECEIVED)
def test_window_is_what_linux_received(name):
    """Linux prints its ring of bits. The frames of the capture that were good are what it received."""
    after = xfrm.read_states(CAPTURES / name / "xfrm-state-after.txt", LOCAL)
    (inbound,) = [sa for sa in after if sa.direction == Direction.INBOUND]
    assert inbound.window.bit_count() == RECEIVED[name]
    assert inbound.window & 1, "the highest number was received"


def test_direction_follows_from_the_local_end_or_is_printed():
    assert one_state(GCM.replace("mode tunnel", "mode tunnel\n\tdir out")).direction == Direction.OUTBOUND
    with pytest.raises(
        XfrmError, match="x.txt, line 1: expected an SA that begins or ends at one of this machine's"
    ):
        parse_states(GCM, {ip_address("10.0.0.1")}, file="x.txt")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("src 192.0.2.1", "srx 192.0.2.1", "line 1: expected an entry that begins with src, not 'srx'"),
        ("src 192.0.2.1", "src 192.0.2", "line 1: expected an address for src, not '192.0.2'"),
        ("dst 192.0.2.2", "", "line 1: expected dst, not nothing"),
        ("proto esp", "proto icmp", "line 2: expected esp or ah, not 'icmp'"),
        ("0x7d2f38ab", "0x7d2fxxab", "line 2: expected a number for spi, not '0x7d2fxxab'"),
        ("0x7d2f38ab", "0xab", "line 1: spi must be 256 to"),
        (
            "reqid 1 mode tunnel",
            "reqid 1",
            "line 1: expected an SA with a line proto ... spi ... mode, not 'one without'",
        ),
        ("replay_window 64", "replay_window 65", "line 7: expected a window of at most 64, not 65"),
        ("mode tunnel", "mode beet", "line 2: expected tunnel or transport, not 'beet'"),
        ("rfc4106", "rfc9999", "line 4: expected rfc4106.* or rfc4543.*, not 'rfc9999"),
        (
            "0x6bb3",
            "0x6bb",
            "line 4: expected the key of rfc4106.gcm.aes.., 0x and hexadecimal digits, not '0x6bba",
        ),
        ("0x6bb3a7f1", "0x", "line 1: key must be 16 or 24 or 32 bytes"),
        (" 128", "", "line 4: expected a number for the ICV's bits, not nothing"),
        (" 128", " 64k", "line 4: expected a number for the ICV's bits"),
        ("oseq 0x0", "oseq", "line 6: expected a number for oseq, not nothing"),
        ("00000000 00000000", "", "line 9: expected a word of the window.*, not 'sel'"),
        ("sel src 0.0.0.0/0", "sel src 0.0.0.0/40", "line 9: expected a network for src, not '0.0.0.0/40'"),
        ("sel ", "sell ", "line 9: expected a property of an SA that ip xfrm state prints, not 'sell'"),
    ],
)
def test_errors_name_file_line_and_what_was_expected(old, new, message):
    assert old in GCM
    with pytest.raises(XfrmError, match=f"x.txt, {message}") as caught:
        parse_states(GCM.replace(old, new, 1), LOCAL, file="x.txt")
    assert "512020a421c6345" not in str(caught.value), "keys do not appear in messages"


POLICIES = """\
src 10.2.0.0/24 dst 10.1.0.0/24 proto udp dport 53 
	dir out action block priority 10 ptype main 
src 10.2.0.0/24 dst 10.9.0.0/24 
	dir out priority 20 ptype main 
src 10.1.0.0/24 dst 10.2.0.0/24 uid 0
	dir fwd action allow index 50 priority 5 share any flag  (0x00000000)
	lifetime config:
	  limit: soft (INF)(bytes), hard (INF)(bytes)
	  limit: soft (INF)(packets), hard (INF)(packets)
	  expire add: soft 0(sec), hard 0(sec)
	  expire use: soft 0(sec), hard 0(sec)
	lifetime current:
	  0(bytes), 0(packets)
	  add 2026-11-24 14:55:14 use -
	tmpl src 192.0.2.1 dst 192.0.2.2
		proto esp spi 0x00000000(0) reqid 1(0x00000001) mode tunnel
		level use share any 
		enc-mask ffffffff auth-mask ffffffff comp-mask ffffffff
src 0.0.0.0/0 dst 0.0.0.0/0 
	socket in priority 0 ptype main 
"""


def test_reads_policies_the_oldest_first():
    protected, bypassed, blocked = parse_policies(POLICIES)
    assert (blocked.action, blocked.priority, blocked.direction) == (
        PolicyAction.DISCARD,
        10,
        PolicyDirection.OUT,
    )
    assert blocked.selectors.protocol == 17 and blocked.selectors.destination_ports == (53, 53)
    assert (bypassed.action, bypassed.templates) == (PolicyAction.BYPASS, ())
    (template,) = protected.templates
    assert (protected.action, protected.direction) == (PolicyAction.PROTECT, PolicyDirection.FORWARD)
    assert (template.reqid, template.mode, template.optional) == (1, Mode.TUNNEL, True)
    assert template.source == ip_address("192.0.2.1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dir out action", "dir up action", "y.txt, line 2: expected in or out or fwd, not 'up'"),
        ("action block", "action eat", "line 2: expected block or allow, not 'eat'"),
        ("proto udp", "proto tea", "line 1: expected a protocol's name or number, not 'tea'"),
        ("dport 53", "dport", "line 1: expected a number for dport, not nothing"),
        ("mode tunnel", "", "line 16: expected mode tunnel or mode transport, not nothing"),
        (
            "\tdir out priority 20 ptype main \n",
            "",
            "line 3: expected a policy with a line dir in, out or fwd",
        ),
    ],
)
def test_errors_in_policies(old, new, message):
    assert old in POLICIES
    with pytest.raises(XfrmError, match=message):
        parse_policies(POLICIES.replace(old, new, 1), file="y.txt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(XfrmError, match="none.txt: expected the output of ip xfrm"):
        xfrm.read_states(tmp_path / "none.txt", LOCAL)


WORDS = sorted({*GCM.split(), *DETAILED.split(), *POLICIES.split(), "", "\n", "\n\t", "-1", "0x", "("})


@given(st.sampled_from([GCM, DETAILED, POLICIES]), st.data())
def test_only_named_errors_escape(text, data):
    """Words replaced, removed and doubled, and characters changed."""
    words = text.replace("\n\t", " \n\t ").split(" ")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(words) - 1))
        new = data.draw(st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=2))
        words[at : at + data.draw(st.integers(0, 2))] = new
        words = words or [""]
    for parse in (lambda changed: parse_states(changed, LOCAL), parse_policies):
        try:
            parse(" ".join(words))
        except XfrmError:
            pass
