#!/bin/sh
# Captures what comes to a Linux IPsec gateway, and how the gateway is configured, for `spigate replay FOLDER`.
#
#   capture.sh NETWORK_INTERFACE SERVER_INTERFACE FOLDER [SECONDS]
#
# Root's, on the gateway; it needs iproute2 and tcpdump. It ends after SECONDS, or with Ctrl-C. FOLDER is made, and
# only its owner may enter it: the keys of all SAs are in there. docs/captures.md says what the files are.
#
# SPDX-FileCopyrightText: The spigate contributors
# SPDX-License-Identifier: Apache-2.0
set -eu
umask 077

fail() {
    echo "capture.sh: $1" >&2
    exit 2
}

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
    sed -n '2,7 s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
network=$1 server=$2 folder=$3 seconds=${4:-}
for tool in ip tcpdump; do
    command -v "$tool" > /dev/null || fail "this machine lacks $tool"
done
[ "$(id -u)" = 0 ] || fail "only root sees keys and frames"
for interface in "$network" "$server"; do
    ip link show dev "$interface" > /dev/null 2>&1 || fail "there is no interface $interface"
done
mkdir "$folder" 2> /dev/null || fail "cannot make the folder $folder, or it is there already"

# Names of the SAs that `ip xfrm state` printed.
sas() {
    sed -n 's/^[[:space:]]*\(proto [a-z]* spi 0x[0-9a-f]*\).*/\1/p' "$1" | sort
}

# Begins to capture what comes in at an interface: begin FILE INTERFACE. It sets `process`.
begin() {
    tcpdump -i "$2" -Q in -s 0 -U --immediate-mode -Z root -w "$folder/$1.pcap" 2> "$folder/$1.log" &
    process=$!
    until grep -q 'listening on' "$folder/$1.log"; do
        kill -0 $process 2> /dev/null || fail "tcpdump: $(cat "$folder/$1.log")"
        sleep 0.1
    done
}

# Before the first frame: a window in which it is already would have it for a replay.
ip xfrm state > "$folder/xfrm-state.txt"
ip xfrm policy > "$folder/xfrm-policy.txt"
begin server-in "$server"
captures=$process
trap 'kill -INT $captures 2> /dev/null || true' INT TERM EXIT
begin network-in "$network"
captures="$captures $process"
if [ -z "$seconds" ]; then
    echo "capturing at $network and $server until Ctrl-C"
else
    echo "capturing at $network and $server for $seconds s"
    sleep "$seconds" || true
    kill -INT $captures 2> /dev/null || true
fi
for process in $captures; do
    while kill -0 "$process" 2> /dev/null; do wait "$process" || true; done
done
trap - EXIT

ip xfrm state > "$folder/xfrm-state-after.txt"
ip -j address > "$folder/addr.json"
ip -j link > "$folder/link.json"
ip -j neighbour > "$folder/neigh.json"
ip -j route > "$folder/route.json"
ip -j -6 route > "$folder/route6.json"
rm "$folder/network-in.log" "$folder/server-in.log"
if [ "$(sas "$folder/xfrm-state.txt")" != "$(sas "$folder/xfrm-state-after.txt")" ]; then
    echo "capture.sh: SAs have changed meanwhile, and packets of the new ones will not be understood" >&2
fi
echo "spigate replay $folder --network-interface $network --server-interface $server --out OUT"
