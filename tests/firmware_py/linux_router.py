# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Runs inside a user-mode Linux: a router of its own, in a new network namespace, for each of the jobs in a
file, and what came of each frame.

It imports nothing but the standard library, for it runs on that machine's own interpreter.

A job has ``modules``; ``devices``: name, Ethernet address; ``commands``: for ``ip``, ``tc`` and ``sysctl``;
``protocols`` that the host hears; ``pause``, in seconds, after each step; ``steps``: ``["frame", device,
hex]`` or ``["ip", commands]``. The answer is, for each step, a list of ``[device or "host", hex]``.
"""

import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
YIELDS = 4
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000


def tap(name):
    made = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(made, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return made


def heard(protocol):
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    made.setblocking(False)
    return made.detach()


def batch(tool, lines):
    """Many commands in one process."""
    if tool == "sysctl":
        for line in lines:
            name, value = line.split("=")
            with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
                file.write(value)
        return
    done = subprocess.run(
        [tool, "-batch", "-"],
        input="\n".join(lines) + "\n",
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise SystemExit(f"{tool}: {done.stdout}, of {lines}")


class Router:
    def __init__(self, job):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        self.devices = {name: tap(name) for name in job["devices"]}
        for name, lines in job["commands"]:
            batch(name, lines)
        self.hears = {"host": [heard(protocol) for protocol in job["protocols"]]}
        self.hears.update((name, [made]) for name, made in self.devices.items())

    def out(self):
        """What has left since it was asked last, and what the host got."""
        found = []
        for name, files in self.hears.items():
            for file in files:
                while True:
                    try:
                        found.append([name, os.read(file, 1 << 16).hex()])
                    except OSError as error:
                        if error.errno != errno.EAGAIN:
                            raise
                        break
        return found

    def settled(self, pause):
        """All that comes out, until nothing does after a pause: what is decrypted goes on in a thread of
        the kernel, which is let run.
        """
        found, more = self.out(), True
        while more:
            if pause:
                time.sleep(pause)
            else:
                for _ in range(YIELDS):
                    os.sched_yield()
            more = self.out()
            found += more
        return found

    def run(self, steps, pause):
        answers = []
        for kind, *what in steps:
            if kind == "frame":
                os.write(self.devices[what[0]], bytes.fromhex(what[1]))
            else:
                batch("ip", what[0])
            answers.append(self.settled(pause))
        return answers


def in_a_child(job, name):
    """Whatever it makes goes with its process."""
    child = os.fork()
    if not child:
        router = Router(job)
        router.settled(job["pause"])
        with open(name, "w") as file:
            json.dump(router.run(job["steps"], job["pause"]), file)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a router failed")
    with open(name) as file:
        return json.load(file)


def main(path):
    with open(path) as file:
        jobs = json.load(file)
    for module in jobs["modules"]:
        subprocess.run(["modprobe", module], check=True)
    answers = [in_a_child(job, f"{path}.part") for job in jobs["jobs"]]
    with open(f"{path}.out", "w") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main(sys.argv[1])
