import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigate.firmware_py.control.settings import Miss
from spigate.firmware_py.control.topology import NextHop
from spigate.firmware_py.daemon import static as config
from spigate.firmware_py.ipsec.policy import PolicyAction
from spigate.firmware_py.ipsec.sa import Cipher
from spigate.firmware_py.tables.interface import Balance
from spigate.firmware_py.toml import ConfigError
from spigate.hdl.contract.enums import Direction, Port

# The example in the module's own text.
EXAMPLE = (
    re.search(r"code-block:: toml\n\n((?: {4}.*\n|\n)*)", config.__doc__)[1].replace("\n    ", "\n").strip()
)


def test_reads_its_own_example():
    found = config.parse(EXAMPLE)
    settings = found.settings
    assert (settings.default, settings.miss) == (PolicyAction.DISCARD, Miss.INJECT)
    assert (settings.cfe.balance, settings.cfe.enable, settings.cfe.weights) == (
        Balance.ROUND_ROBIN,
        3,
        (1, 1),
    )
    assert settings.sources[0].network == ip_network("10.1.0.0/24")
    assert found.topology.next_hop(ip_address("10.1.0.77")) == NextHop(
        Port.NETWORK, b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
    )
    (sa,) = found.sas
    assert (sa.direction, sa.spi, sa.cipher, sa.salt) == (
        Direction.INBOUND,
        0x1001,
        Cipher.AES_GCM,
        b"\1\2\3\4",
    )
    assert sa.soft.bytes == 1000000 and sa.selectors.destination == ip_network("10.2.0.0/24")
    (policy,) = found.policies
    assert policy.selectors.destination_ports == (53, 53) and policy.templates[0].reqid == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "spi = 0x1001",
            "spi = 255",
            r"x.toml, key sa\[0\].spi: expected a number, 256 to 4294967295, not 255",
        ),
        ("spi = 0x1001", "spy = 1", r"key sa\[0\].spi: expected a number, 256 to 4294967295, not nothing"),
        (
            'cipher = "aes-gcm"',
            'cipher = "des"',
            r"key sa\[0\].cipher: expected null or aes-cbc or .*, not 'des'",
        ),
        (
            'key = "0011',
            'key = "zz11',
            r"key sa\[0\].key: expected hexadecimal digits, two a byte, not 'what stands",
        ),
        ('salt = "01020304"', 'salt = "01"', r"key sa\[0\]: salt must be 4 bytes for aes-gcm, not '1 bytes'"),
        ('miss = "inject"', 'miss = "lose"', r"key gateway.miss: expected inject or drop, not 'lose'"),
        (
            "patience = 65535",
            "patience = true",
            r"key gateway.patience: expected a number, 0 to 65535, not True",
        ),
        (
            "depth_limit = 3",
            "depth_limits = 3",
            r"key gateway.depth_limits: expected one of enable, .*, not 'depth_",
        ),
        (
            'direction = "fwd"',
            'direction = "up"',
            r"key policy\[0\].direction: expected out or in or fwd, not 'up'",
        ),
        (
            "[53, 53]",
            "[53]",
            r"key policy\[0\].selectors.destination_ports: expected two port numbers, in order",
        ),
        (
            "[53, 53]",
            "[53, 1]",
            r"key policy\[0\].selectors: selectors.destination_ports must be two numbers",
        ),
        (
            'action = "protect"',
            'action = "bypass"',
            r"key policy\[0\]: templates must be empty for action bypass",
        ),
        ('mac = "02:00:00:00:00:02"', 'mac = "2"', r"key port.network.mac: expected an Ethernet address"),
        (
            'gateway = "192.0.2.1"           # optional',
            "",
            r"key next_hop\[0\].gateway: expected an address, because",
        ),
        ("[[policy]]", "[policy]", r"key policy: expected tables, \[\[policy\]\]"),
        ("[gateway]", "[gateway", r"x.toml: expected TOML"),
    ],
)
def test_errors_name_file_key_and_what_was_expected(old, new, message):
    assert old in EXAMPLE
    with pytest.raises(ConfigError, match=message) as caught:
        config.parse(EXAMPLE.replace(old, new, 1), file="x.toml")
    assert "00112233" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none.toml: expected a TOML file"):
        config.read(tmp_path / "none.toml")


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 40), st.text(max_size=6))
def test_only_named_errors_escape(at, count, text):
    try:
        config.parse(EXAMPLE[:at] + text + EXAMPLE[at + count :])
    except ConfigError:
        pass
