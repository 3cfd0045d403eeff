# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce`` and a simulated board at the end of a serial line, opposite strongSwan above a Linux
kernel's own ESP.
"""

import pytest

from tests.firmware_py.daemon.bed import ping
from tests.firmware_py.daemon.board import Board, hardware_config
from tests.firmware_py.daemon.test_hardware import INSIDE, SMALL, gone_and_started, in_dfes, reaches
from tests.firmware_py.ike.strongswan import swanctl_conf

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.slow]
CLEARED_SECONDS, LINE_SECONDS = 300, 300
"""Tables of which each entry is erased over a simulated serial line; an answer over it."""
LINE_SIZES = (0, 56, 500, 1300)


def test_a_tunnel_over_a_serial_line_that_is_pulled_out(kernel, tmp_path):
    """With the board at its end. What was there is negotiated anew."""
    uml, folder, charon = kernel
    with Board(tmp_path, uml, *SMALL, serial=True) as board:
        (folder / "swanctl.conf").write_text(swanctl_conf(esp="aes128gcm16"))
        charon.load()
        gateway = board.control_element(tmp_path / "ce", hardware_config())
        try:
            board.pin_gateway(True)  # ARP gives up sooner than a simulated line answers
            gateway.spawn()
            gateway.until(lambda: gone_and_started(gateway) == (0, 1), "starts", CLEARED_SECONDS)
            gateway.happens("child-up", seconds=LINE_SECONDS)
            gateway.until(lambda: reaches(board, INSIDE, seconds=10), "learns the SAs", LINE_SECONDS)
            ping(board.server, INSIDE, LINE_SIZES, timeout=LINE_SECONDS)
            gateway.until(lambda: in_dfes(gateway), "is in DFEs")
            spis = {row["spi"] for row in gateway.rows("sas")}

            board.pull_out()
            gateway.until(lambda: gone_and_started(gateway) == (1, 1), "says that it is gone")
            board.put_back()
            board.pin_gateway(True)
            gateway.until(lambda: gone_and_started(gateway) == (1, 2), "starts again", CLEARED_SECONDS)
            gateway.happens("child-up", seconds=LINE_SECONDS)
            gateway.until(lambda: reaches(board, INSIDE, seconds=10), "learns the SAs", LINE_SECONDS)
            ping(board.server, INSIDE, LINE_SIZES, timeout=LINE_SECONDS)
            gateway.until(lambda: in_dfes(gateway), "is in DFEs")
            assert not spis & {row["spi"] for row in gateway.rows("sas")}
            assert charon.swanctl("--list-sas").count("ESTABLISHED") == 1
            gateway.close()
            assert gateway.ended(0) == 0, gateway.log.read_text()
        finally:
            gateway.close()
