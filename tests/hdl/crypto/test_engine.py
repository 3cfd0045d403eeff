import random

import pytest

from spigate.hdl.crypto.interface import Auth, Cipher
from tests.hdl.crypto.engine_packets import check, random_packet, run

GCM, CBC, NULL = Cipher.AES_GCM, Cipher.AES_CBC, Cipher.NULL
SUITES = [(GCM, Auth.NONE), (CBC, Auth.NONE), (NULL, Auth.NONE), *((cipher, auth) for cipher in (CBC, NULL)
          for auth in (Auth.HMAC_SHA1_96, Auth.HMAC_SHA256_128))]


@pytest.mark.parametrize("pause", [0, 0.3])
@pytest.mark.parametrize("suites", [[GCM], [CBC], [NULL], [GCM, CBC, NULL]], ids=["gcm", "cbc", "null", "mixed"])
def test_packets_shaped_as_esp(suites, pause, tmp_path):
    source = random.Random(f"{suites}{pause}")
    chosen = [suite for suite in SUITES if suite[0] in suites]
    packets = [[random_packet(source, suites=chosen) for _ in range(30)] for _ in range(2)]
    check(packets, run(tmp_path, packets, pause=pause))
