"""``spigate ce`` and strongSwan above a Linux kernel's own ESP and AH, in a user-mode Linux."""
import pytest

from tests.firmware_py.host.bed import SIZES, Gateway, Traffic, child_of, config, ping
from tests.firmware_py.ike.hosts import THEIRS
from tests.firmware_py.ike.test_strongswan import swanctl_conf

# The peer is a process of its own with timers of its own, on a machine that may be loaded.
pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.flaky(reruns=2)]


def theirs(protocol: str, mode: str, words: str) -> str:
    conf = swanctl_conf(extra=f"mode = {mode}\n        {protocol}_proposals = {words}")
    if protocol == "ah":
        conf = conf.replace("esp_proposals = aes128gcm16", "")
    return conf.replace("local_ts = 10.2.0.0/24", "").replace("remote_ts = 10.1.0.0/24", "") if mode == "transport" else conf


@pytest.mark.parametrize("who", ["we", "they"])
@pytest.mark.parametrize("protocol, mode, words", [
    ("esp", "tunnel", "aes128gcm16"), ("esp", "tunnel", "aes256-sha256-esn"), ("ah", "tunnel", "sha256"),
    ("esp", "transport", "aes256gcm16-esn"), ("ah", "transport", "sha512-esn")])
def test_pings_and_rekeying(kernel, tmp_path, protocol, mode, words, who):
    uml, folder, charon = kernel
    (folder / "swanctl.conf").write_text(theirs(protocol, mode, words))
    charon.load()
    there = str(THEIRS) if mode == "transport" else "10.2.0.1"
    gateway = Gateway(uml.ours, tmp_path, config(child=child_of(protocol, mode, words), start="now" if who == "we" else "never"))
    try:
        gateway.start()
        if who == "they":
            charon.swanctl("--initiate", "--child", "net")
        gateway.happens("child-up")
        assert {row["protocol"] for row in gateway.rows("sas")} == {protocol}
        ping(uml.ours, there, SIZES)
        with Traffic(uml.ours, there) as traffic:
            gateway.command("rekey", "b/net")
            gateway.happens("child-rekeyed")
            charon.swanctl("--rekey", "--child", "net")
            gateway.happens("child-rekeyed", 2)
            gateway.command("rekey", "b")
            gateway.happens("ike-rekeyed")
        assert traffic.error is None and traffic.count > 20
    finally:
        gateway.close()
