# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The first program of a user-mode Linux: runs what it is told to over TCP, and echoes what comes to TCP
port 7.

It imports nothing but the standard library, for it runs on that machine's own interpreter.
"""

import json
import socket
import socketserver
import subprocess
import sys
import threading

ECHO = 7


class Command(socketserver.StreamRequestHandler):
    """A line of JSON is a command: ``words``, ``environment`` and, for what is not waited for, the file
    ``log``.
    """

    def handle(self):
        asked = json.loads(self.rfile.readline())
        log = asked.get("log")
        with open(log or "/dev/null", "ab") as file:
            made = subprocess.Popen(
                asked["words"],
                env=asked["environment"],
                stdin=subprocess.DEVNULL,
                stdout=file if log else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        answer = {"pid": made.pid} if log else {"output": made.communicate()[0], "code": made.returncode}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    address_family = socket.AF_INET6  # and IPv4


if __name__ == "__main__":
    threading.Thread(target=Server(("::", ECHO), Echo).serve_forever).start()
    Server(("::", int(sys.argv[1])), Command).serve_forever()
