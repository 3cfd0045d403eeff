# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""A gateway decrypts a packet that a Linux kernel encrypted."""

import sys
from ipaddress import ip_address

import spigate
from spigate import CamEntry, CamKey, Cipher, Direction, Mode, Port, Route, Sa

LINUX, GATEWAY, SPI = ip_address("192.0.2.1"), ip_address("192.0.2.2"), 0x7D2F38AB
# Key and salt, as ip xfrm state prints them.
SECRET = bytes.fromhex("6bb3a7f11512020a421c634521d5941daa4acfea")
FRAME = bytes.fromhex(
    "020000000002020000000001080045000054000040004032b674c0000201c0000202"  # Ethernet, IPv4
    "7d2f38ab0000000135e3868c4353cb49"  # ESP: SPI, sequence number, IV
    "ba0a93c5a4e38128da1a7153beec2e46544a6be3d80683ec6f47860bf22f486fff71d2fa4902cf30402c1de9fd0dceef"
)

with spigate.open(sys.argv[1] if len(sys.argv) > 1 else "model:") as gateway:
    sa = Sa(
        direction=Direction.INBOUND,
        mode=Mode.TUNNEL,
        source=LINUX,
        destination=GATEWAY,
        spi=SPI,
        cipher=Cipher.AES_GCM,
        key=SECRET[:16],
        salt=SECRET[16:],
        icv_bytes=16,
    )
    gateway.write_sa(dfe=0, index=7, sa=sa)
    gateway.write_route(3, Route(Port.SERVER, decrement_ttl=True))
    gateway.add_cam(CamEntry(CamKey(GATEWAY, SPI), dfe=0, sa=7, route=3))
    gateway.send(Port.NETWORK, FRAME)
    print("decrypted:", gateway.receive(Port.SERVER).frame[14:].hex())
    for name, count in gateway.counters().dfes[0].items():
        print(f"{name}: {count}")
