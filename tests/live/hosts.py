"""Hosts for tests, as namespaces of this machine: own network, own /tmp and /dev/shm, own process ids, own name.

They stand around a router, each with a link of its own that can be cut and slowed down. All of it belongs to processes
that end when this one does, by whatever cause, and goes with them: nothing has a name in the machine's own namespaces.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from live.clusters import LONG_S, until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_UNSHARE = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]


@functools.cache
def why_not() -> str:
    """Return why there can be no hosts on this machine; empty when there can."""
    missing = [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]
    if missing:
        return f"no {missing[0]} on this machine"
    link = "ip link set lo up && ip link add near0 type veth peer name far0 && mount -t tmpfs tmpfs /tmp"
    tried = subprocess.run(
        [*_UNSHARE, "sh", "-c", link], text=True, capture_output=True, timeout=LONG_S, check=False
    )  # fmt: skip
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


def children_of(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def needed_of_tmp() -> list[str]:
    """Return the folders below /tmp without which there is no Python and no scalepool; those that hold others first."""
    needed = {str(ROOT), sys.prefix, sys.base_prefix}
    # A virtual environment's interpreter is a link, maybe to another one, each in a folder of its own.
    link = Path(sys.executable)
    while link.is_symlink():
        link = link.parent / link.readlink()
        needed.add(os.path.normpath(link.parent))
    return sorted(path for path in needed if path.startswith("/tmp/"))


class Process:
    """A program on a host. ``pid`` is its process id as seen from outside."""

    def __init__(self, popen: subprocess.Popen[str], errors: Path) -> None:
        self.popen = popen
        self._errors = errors
        self.pid = until(lambda: children_of(popen.pid) or (popen.poll() is not None and [0]))[0]

    def line(self) -> str:
        """Return the next line that it prints; waits for it."""
        text: str = self.popen.stdout.readline()  # type: ignore[union-attr]
        assert text, f"it ended: {self.said()}"
        return text.rstrip("\n")

    def say(self, text: str = "") -> None:
        """Give it a line."""
        self.popen.stdin.write(text + "\n")  # type: ignore[union-attr]
        self.popen.stdin.flush()  # type: ignore[union-attr]

    def said(self) -> str:
        """What it has written to stderr so far."""
        return self._errors.read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self) -> None:
        """Have it stand still, as after Ctrl-Z."""
        self.kill(signal.SIGSTOP)

    def resume(self) -> None:
        self.kill(signal.SIGCONT)
        # Who waits for it in its namespace stands still with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.popen.pid, signal.SIGCONT)

    def wait(self, timeout_s: float = LONG_S) -> int:
        return self.popen.wait(timeout_s)

    def close(self) -> None:
        self.kill()
        self.popen.kill()
        self.popen.wait(LONG_S)
        for stream in (self.popen.stdin, self.popen.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


class Host:
    """One host; made by a `Network`.

    Attributes
    ----------
    address, address6
        Where it can be reached, if there is a way to it.
    python_path
        Where Python programs find modules before anywhere else.
    """

    def __init__(self, name: str, folder: Path, uptime_s: int = 0) -> None:
        self.name = name
        self.address = self.address6 = ""
        self.python_path = ""
        self._folder = folder
        self._folder.mkdir(parents=True)
        self._count = 0
        self._processes: list[Process] = []
        kept = needed_of_tmp()
        uptime = ["--time", f"--monotonic={uptime_s}", f"--boottime={uptime_s}"] if uptime_s else []
        self._holder = subprocess.Popen(
            [*_UNSHARE, *uptime, sys.executable, "-S", "-E", str(HERE / "host_init.py"), name, *kept],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        (self.pid,) = children_of(self._holder.pid)
        self._time = ["-T"] if uptime_s else []

    def path(self, inside: str) -> Path:
        """Return where a file of the host is as seen from outside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` in its network; processes are named as they are outside."""
        words = ["nsenter", "-t", str(self.pid), "-n", "ip", *arguments]
        done = subprocess.run(words, text=True, capture_output=True, timeout=LONG_S, check=False)
        assert not done.returncode, (arguments, done.stderr)

    def _words(self, words: tuple[str, ...]) -> list[str]:
        enter = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", *self._time]
        return [*enter, "sh", "-c", 'cd "$HOME" && exec "$@"', "sh", *words]

    def _environ(self, variables: dict[str, str]) -> dict[str, str]:
        path = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        modules = os.pathsep.join(filter(None, [self.python_path, str(ROOT)]))
        return {"PATH": path, "HOME": "/tmp/home", "PYTHONPATH": modules, "LANG": "C.UTF-8", **variables}

    def command(self, *words: str, check: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            self._words(words), env=self._environ(variables), text=True, capture_output=True, timeout=2 * LONG_S,
            check=check, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, *words: str, **variables: str) -> Process:
        """Start a program in the background."""
        self._count += 1
        errors = self._folder / f"{self._count}.err"
        with errors.open("w") as file:
            popen = subprocess.Popen(
                self._words(words), env=self._environ(variables), text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process := Process(popen, errors))
        return process

    def verb(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of scalepool to its end."""
        return self.command(sys.executable, "-m", "scalepool", *arguments, **variables)

    def script(self, text: str, *arguments: str, **variables: str) -> Process:
        """Start a Python program of which ``text`` is the source."""
        self._count += 1
        name = f"/tmp/home/program{self._count}.py"
        self.path(name).write_text(text)
        return self.start(sys.executable, "-u", name, *arguments, **variables)

    # ---- what is there ----

    def pids(self) -> list[int]:
        """Return the process ids, as they are outside, of all that runs there."""
        found = []
        own = Path(f"/proc/{self.pid}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == self.pid:
                continue
            with contextlib.suppress(OSError):
                if (entry / "ns" / "pid").readlink() == own:
                    found.append(int(entry.name))
        return found

    def processes(self) -> list[str]:
        """Return the command lines of all that runs there."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        return found

    def listening(self) -> list[int]:
        """Return the TCP ports where something listens."""
        ports = []
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    ports.append(int(fields[1].rsplit(":")[-1], 16))
        return sorted(ports)

    def left(self) -> list[str]:
        """Return what is in the host's shared memory and temporary folder that somebody else made than its user."""
        ours = {"home", *(path.split("/")[2] for path in needed_of_tmp())}
        return [
            f"{folder}/{entry.name}"
            for folder in ("/dev/shm", "/tmp")
            for entry in self.path(folder).iterdir()
            if entry.name not in ours
        ]

    def end(self) -> None:
        """Have all end that runs there, and the host."""
        for process in self._processes:
            process.close()
        self._holder.stdin.close()  # type: ignore[union-attr]

    def close(self) -> None:
        """Wait until it has ended."""
        self._holder.wait(LONG_S)
        self._holder.stdout.close()  # type: ignore[union-attr]


class Network:
    """A router, and hosts that are connected to it by a link each.

    Parameters
    ----------
    folder
        For what programs write to stderr.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hosts: dict[str, Host] = {}
        self._wires: list[subprocess.Popen[bytes]] = []
        self.router = self._made("router")
        for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.router.command("sh", "-c", f"echo 1 > /proc/sys/net/{switch}", check=True)

    def _made(self, name: str, uptime_s: int = 0) -> Host:
        self._hosts[name] = host = Host(name, self._folder / name, uptime_s)
        return host

    def host(self, name: str, *, only: tuple[Host, ...] = (), wire: tuple[str, ...] = (), uptime_s: int = 0) -> Host:
        """Add a host.

        Parameters
        ----------
        name
            At most 15 characters, as it is its link's name at the router, too.
        only
            The hosts to which it has a way; without any, to all.
        wire
            Instead of a link of the kernel's: arguments of `live.slow_wire`.
        uptime_s
            For how much longer its monotonic clock has run than those of the others.
        """
        number = len(self._hosts)
        host = self._made(name, uptime_s)
        self._link(self.router, host, name, wire)
        host.address, host.address6 = f"10.77.{number}.2", f"fd77:{number}::2"
        self._configure(self.router, name, f"10.77.{number}.1/24", f"fd77:{number}::1/64")
        self._configure(host, "eth0", f"{host.address}/24", f"{host.address6}/64")
        for version, gateway in (("-4", f"10.77.{number}.1"), ("-6", f"fd77:{number}::1")):
            targets = [one.address if version == "-4" else one.address6 for one in only] or ["default"]
            for target in targets:
                host.ip(version, "route", "add", target, "via", gateway)
        return host

    def behind(self, gateway: Host, name: str) -> Host:
        """Add a host in a network of its own behind another host, which hides it by NAT (masquerading)."""
        host = self._made(name)
        self._link(gateway, host, "inside", ())
        gateway.ip("addr", "add", "192.168.7.1/24", "dev", "inside")
        gateway.ip("link", "set", "inside", "up")
        host.ip("addr", "add", "192.168.7.2/24", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        host.ip("route", "add", "default", "via", "192.168.7.1")
        gateway.command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", check=True)
        done = gateway.command(sys.executable, str(HERE / "masquerade.py"), "eth0")
        if done.returncode:
            pytest.skip(f"the kernel cannot do NAT: {done.stderr.strip()[-200:]}")
        host.address = "192.168.7.2"
        return host

    def _link(self, near: Host, far: Host, name: str, wire: tuple[str, ...]) -> None:
        if not wire:
            near.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(far.pid))
            return
        # Its two ends are this process's: when it ends so does the link.
        process = subprocess.Popen(
            [sys.executable, str(HERE / "slow_wire.py"), str(near.pid), name, str(far.pid), "eth0", *wire],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._wires.append(process)
        if process.stdout.readline() != b"ready\n":  # type: ignore[union-attr]
            pytest.skip("no /dev/net/tun here, which a slow link is made of")

    def _configure(self, host: Host, device: str, address: str, address6: str) -> None:
        host.ip("addr", "add", address, "dev", device)
        host.ip("-6", "addr", "add", address6, "dev", device, "nodad")
        host.ip("link", "set", device, "up")

    def cut(self, host: Host) -> None:
        """Pull the cable of a host: nothing arrives any more, and nobody is told."""
        self.router.ip("link", "set", host.name, "down")

    def heal(self, host: Host) -> None:
        """The reverse of ``cut``."""
        self.router.ip("link", "set", host.name, "up")

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for host in self._hosts.values():
                stack.callback(host.close)
            for host in self._hosts.values():
                stack.callback(host.end)
            for wire in self._wires:
                stack.callback(wire.wait, LONG_S)
                stack.callback(wire.stdout.close)  # type: ignore[union-attr]
                stack.callback(wire.stdin.close)  # type: ignore[union-attr]


class HostCluster:
    """A head on a host of its own, for others to join.

    Parameters
    ----------
    network
        Where.
    options
        Of ``scalepool head``, in addition to its address.
    bind
        Its address; by default that of its host.
    host
        Where; by default on one that is made for it.
    """

    def __init__(self, network: Network, *options: str, bind: str = "", host: Host | None = None) -> None:
        self.network = network
        self.host = host or network.host("head")
        made = self.host.verb("keys", "new")
        assert made.returncode == 0, made.stderr
        self._keys = self.host.path("/tmp/home/.scalepool/keys.json").read_text()
        self.process = self.host.start(
            sys.executable, "-m", "scalepool", "head", "--bind", bind or self.host.address, *options
        )
        self.greeting = self.process.line()
        self.address = f"tcp://{self.host.address}:7877"
        self.agents: dict[str, Process] = {}

    def give_keys(self, host: Host) -> None:
        """Put the key file where it is looked for, as ``scp -p`` does."""
        folder = host.path("/tmp/home/.scalepool")
        folder.mkdir(mode=0o700, exist_ok=True)
        file = folder / "keys.json"
        file.touch(mode=0o600)
        file.write_text(self._keys)

    def join(self, host: Host, slots: int = 2, *options: str, address: str = "", **variables: str) -> Process:
        """Have a host join, and wait for that."""
        self.give_keys(host)
        words = [sys.executable, "-m", "scalepool", "worker", address or self.address, "--cpus", str(slots), *options]
        self.agents[host.name] = agent = host.start(*words, **variables)
        until(lambda: "joined" in agent.said() or agent.popen.poll() is not None)
        assert "joined" in agent.said(), agent.said()
        return agent

    def program(self, host: Host, text: str, *arguments: str, address: str = "", **variables: str) -> Process:
        """Start a program on a host that uses the cluster."""
        self.give_keys(host)
        return host.script(text, *arguments, SCALEPOOL_ADDRESS=address or self.address, **variables)

    def workers(self, host: Host) -> list[str]:
        """Return the processes of a host that are neither its agent nor a user's."""
        return [line for line in host.processes() if "zygote" in line or "scalepool worker" in line]

    def report(self) -> dict[str, Any]:
        """Return what ``scalepool status`` says."""
        shown = self.host.verb("status", "--json")
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = json.loads(shown.stdout)
        return found
