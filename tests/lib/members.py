# SPDX-License-Identifier: Apache-2.0
"""members.py: the members of a replica set of real servers, one by one: stepped down, killed, stopped, restarted."""
import os
import pathlib
import signal
import subprocess
import tempfile

from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from faults import faults
from scenario import wait_until

FOLDER = pathlib.Path(tempfile.gettempdir()) / ("towline-servers-%d" % os.getuid())


def command_line(pid):
    return pathlib.Path("/proc/%d/cmdline" % pid).read_bytes().decode().split("\0")[:-1]


class Members:
    def __init__(self, server):
        self.server = server
        self.pids = FOLDER / server.name / "pids"
        self.commands, self.running = {}, {}  # by port
        for pid in map(int, self.pids.read_text().split()):
            words = command_line(pid)
            port = int(words[words.index("--port") + 1])
            self.commands[port], self.running[port] = words, pid

    def primary(self):
        """Its port, once there is one."""
        found = []

        def look():
            found[:] = [port for port in self.running if self.hello(port).get("isWritablePrimary")]
            return found
        wait_until("primary", look)
        return found[0]

    def hello(self, port):
        try:
            with MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500) as client:
                return client.admin.command("hello")
        except AutoReconnect:
            return {}

    def step_down(self):
        port = self.primary()
        faults.injected("primary stepped down")
        with MongoClient("127.0.0.1", port, directConnection=True) as client:
            client.admin.command("replSetStepDown", 20, secondaryCatchUpPeriodSecs=10)

    def kill_primary(self):
        port = self.primary()
        faults.injected("server " + "killed (SIGKILL)")
        os.kill(self.running.pop(port), signal.SIGKILL)

    def pause_primary(self, seconds):
        port = self.primary()
        faults.injected("server stands still (SIGSTOP)")
        os.kill(self.running[port], signal.SIGSTOP)
        try:
            subprocess.run(["sleep", str(seconds)], check=True)
        finally:
            os.kill(self.running[port], signal.SIGCONT)

    def restart_dead(self):
        for port, words in self.commands.items():
            if port not in self.running:
                log = open(FOLDER / self.server.name / ("log.again.%d" % port), "ab")
                process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           start_new_session=True)
                log.close()
                self.running[port] = process.pid
                with open(self.pids, "a", encoding="utf-8") as file:
                    file.write("%d\n" % process.pid)

    def settle(self):
        """There is a primary, and the majority has all that it wrote."""
        self.primary()
        self.server.client.admin.command("ping")
