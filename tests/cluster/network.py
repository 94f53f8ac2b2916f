"""Machines in miniature: network namespaces on one bridge, each with an address of its own, and a DNS server that answers with
the addresses that a name has at the moment, as headless Services do.

A test file that uses this calls `enter()` before anything else: it starts the file again in user, network, mount and process
namespaces of its own. No root is needed where the kernel allows user namespaces; everything is gone when the process ends."""

import http.client
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cluster import Process, wait_for

BRIDGE = "10.77.0.1"
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
TOOLS = ("unshare", "nsenter", "ip", "dnsmasq")


def enter():
    """Runs the program again inside; returns there, or, with `why_not` set, where it cannot be done."""
    global why_not
    if os.environ.get("YANGTUO_NETWORK") == "inside":
        return
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        why_not = f"not installed: {', '.join(missing)}"
    elif subprocess.run([*UNSHARE, "ip", "link", "add", "b0", "type", "bridge"], capture_output=True).returncode != 0:
        why_not = "this machine does not allow network namespaces"
    else:
        os.environ["YANGTUO_NETWORK"] = "inside"
        os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, *sys.argv])


why_not = None


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True)


class Network:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="yangtuo-network-"))
        self.nodes = []
        self.names = {}  # name -> set of addresses
        self.dns = None

    def __enter__(self):
        ip("link", "set", "lo", "up")
        ip("link", "add", "br0", "type", "bridge")
        ip("address", "add", f"{BRIDGE}/24", "dev", "br0")
        ip("link", "set", "br0", "up")
        resolv = self.folder / "resolv.conf"
        resolv.write_text(f"nameserver {BRIDGE}\noptions timeout:1 attempts:1\n")
        subprocess.run(["mount", "--bind", str(resolv), os.path.realpath("/etc/resolv.conf")], check=True)
        self.hosts = self.folder / "hosts"
        self.hosts.write_text("")
        with open(self.folder / "dnsmasq.log", "wb") as log:
            self.dns = subprocess.Popen(
                ["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", f"--addn-hosts={self.hosts}", "--conf-file=/dev/null",
                 f"--listen-address={BRIDGE}", "--bind-interfaces", "--local-ttl=0"],
                stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.close()
        self.dns.terminate()
        self.dns.wait()
        subprocess.run(["umount", os.path.realpath("/etc/resolv.conf")], check=True)
        ip("link", "delete", "br0")
        shutil.rmtree(self.folder, ignore_errors=True)

    def node(self, name):
        self.nodes.append(Node(name, f"10.77.0.{len(self.nodes) + 2}", len(self.nodes)))
        return self.nodes[-1]

    def set_name(self, name, nodes):
        """From now on `name` stands for these nodes' addresses."""
        self.names[name] = [node.address for node in nodes]
        text = "".join(f"{address} {name}\n" for name, addresses in self.names.items() for address in addresses)
        self.hosts.write_text(text)
        self.dns.send_signal(signal.SIGHUP)


class Node:
    """A network namespace with one address. Starts programs in it and can be cut off."""

    def __init__(self, name, address, number):
        self.name, self.address, self.link = name, address, f"veth{number}"
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, "a namespace", 10)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        ip("link", "set", self.link, "master", "br0", "up")
        for words in (["address", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            subprocess.run([*self.enter(), "ip", *words], check=True, capture_output=True)

    def enter(self):
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--"]

    def cut(self):
        ip("link", "set", self.link, "down")

    def heal(self):
        ip("link", "set", self.link, "up")

    def close(self):
        self.holder.kill()
        self.holder.wait()


class NodeProcess(Process):
    """A program on a node, listening on its documented ports."""

    def __init__(self, folder, node, program, arguments):
        super().__init__(folder, node.name, program, arguments)
        self.node = node
        self.command = [*node.enter(), *self.command]

    def address(self, port="grpc"):
        return f"{self.node.address}:{self.ports[port]}"

    def http(self, path):
        connection = http.client.HTTPConnection(self.node.address, self.ports["admin"], timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def ready(self):
        try:
            return self.http("/readyz")[0] == 200
        except OSError:
            return False

    def restart(self):
        """A graceful stop, and the same program again; returns when it is ready."""
        code = self.stop()
        assert code == 0, f"{self.name} ended with {code}:\n{self.log()[-2000:]}"
        started = time.monotonic()
        self.start().wait_ports()
        wait_for(self.ready, f"{self.name} is ready again")
        return time.monotonic() - started
