# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The check of replays can fail: Linux's own output passes it, and does no more when a bit of it is
changed.
"""

import json
import shutil
from pathlib import Path

import pytest

from spigate.firmware_py.captures import pcap
from spigate.sim.verify import Differs, verify

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
NAMES = [
    "esp-tunnel-gcm128-replay",
    "esp-tunnel-cbc128-sha256",
    "ah-tunnel-sha1",
    "esp-tunnel-6in4-gcm128",
    "esp-tunnel-4in6-cbc128-sha256",
    "esp-natt-tunnel-gcm128",
    "esp-tunnel-chapoly",
    "esp-tunnel-gmac128",
    "esp-tunnel-gcm256-esn-wrap",
    "esp-tunnel-ctr128-sha256",
    "esp-nested-tunnels",
]
IP = (b"\x08\x00", b"\x86\xdd")
DROPS = {"esp-tunnel-gcm128-replay": 20}


@pytest.fixture(params=NAMES)
def linux(request, tmp_path):
    folder = CAPTURES / request.param
    for name in ("server-out.pcap", "network-out.pcap"):
        shutil.copy(folder / name, tmp_path)
    replayed = DROPS.get(request.param, 0)
    (tmp_path / "report.json").write_text(json.dumps({"drops": {"replay": replayed, "icv": 0}}))
    return folder, tmp_path


def change(file, what):
    frames = pcap.read(file)
    pcap.write(file, what(frames))


def test_linux_passes(linux):
    assert all(count >= 15 for count in verify(*linux).values())


@pytest.mark.parametrize("name", ["server-out.pcap", "network-out.pcap"])
def test_a_changed_bit_is_found(linux, name):
    folder, out = linux

    def flip(frames):
        at = next(at for at, item in enumerate(frames) if item.frame[12:14] in IP and len(item.frame) > 90)
        frame = bytearray(frames[at].frame)
        frame[80] ^= 1
        return [*frames[:at], pcap.Captured(frames[at].time, bytes(frame)), *frames[at + 1 :]]

    change(out / name, flip)
    with pytest.raises(Exception) as caught:  # noqa: B017 (cryptography's InvalidTag, or Differs)
        verify(folder, out)
    assert type(caught.value).__name__ in ("Differs", "InvalidTag")


@pytest.mark.parametrize("name", ["server-out.pcap", "network-out.pcap"])
def test_a_missing_packet_and_a_swapped_pair_are_found(linux, name):
    folder, out = linux
    at = [at for at, item in enumerate(pcap.read(out / name)) if item.frame[12:14] in IP][3:5]
    whole = (out / name).read_bytes()
    change(out / name, lambda frames: frames[: at[0]] + frames[at[0] + 1 :])
    with pytest.raises(Differs, match="missing"):
        verify(folder, out)
    (out / name).write_bytes(whole)
    change(
        out / name,
        lambda frames: [
            *frames[: at[0]],
            frames[at[1]],
            *frames[at[0] + 1 : at[1]],
            frames[at[0]],
            *frames[at[1] + 1 :],
        ],
    )
    with pytest.raises(Differs, match="order"):
        verify(folder, out)


def test_a_wrong_count_of_drops_is_found(linux):
    folder, out = linux
    (out / "report.json").write_text(json.dumps({"drops": {"replay": 1, "icv": 0}}))
    with pytest.raises(Differs, match="dropped as replay"):
        verify(folder, out)
