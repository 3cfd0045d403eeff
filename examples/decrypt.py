"""A gateway decrypts a packet that a Linux kernel encrypted."""

import sys
from ipaddress import ip_address

import spigate

LINUX, OURS, SPI = ip_address("192.0.2.1"), ip_address("192.0.2.2"), 0x7D2F38AB
SECRET = bytes.fromhex("6bb3a7f11512020a421c634521d5941daa4acfea")  # key and salt, as ip xfrm state prints them
ESP = bytes.fromhex(
    "020000000002020000000001080045000054000040004032b674c0000201c00002027d2f38ab0000000135e3868c4353cb49ba"
    "0a93c5a4e38128da1a7153beec2e46544a6be3d80683ec6f47860bf22f486fff71d2fa4902cf30402c1de9fd0dceef"
)

with spigate.open(sys.argv[1] if len(sys.argv) > 1 else "model:") as gateway:
    sa = spigate.Sa(
        direction=spigate.Direction.INBOUND,
        mode=spigate.Mode.TUNNEL,
        source=LINUX,
        destination=OURS,
        spi=SPI,
        cipher=spigate.Cipher.AES_GCM,
        key=SECRET[:16],
        salt=SECRET[16:],
        icv_bytes=16,
    )
    gateway.write_sa(dfe=0, index=7, sa=sa)
    gateway.write_route(3, spigate.Route(egress=spigate.Port.SERVER))
    gateway.add_cam(spigate.CamEntry(spigate.CamKey(OURS, SPI), dfe=0, sa=7, route=3))
    for _ in range(2):
        gateway.send(spigate.Port.NETWORK, ESP)
    print("decrypted:", gateway.receive(spigate.Port.SERVER).frame.hex())
    for event in gateway.events():
        print(f"dropped: SPI {event.spi:#x}, sequence number {event.sequence}, {spigate.Reason(event.reason).name}")
    print("counters:", gateway.counters().dfes[0])
