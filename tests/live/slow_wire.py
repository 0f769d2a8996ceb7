"""A cable between two hosts of `live.hosts` that takes its time, loses some, and carries only so much.

What netem of the kernel does, where the kernel has none: two TAP devices, and this process between them. It ends, and
the devices with it, when its standard input does. Run with: process id and device name of each end, delay in one
direction in milliseconds, loss in percent, rate in kbit/s.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

_TUNSETIFF = 0x400454CA
_TAP, _NO_PI = 2, 0x1000
_CLONE_NEWNET = 0x40000000
_FRAME_BYTES = 65_536
_QUEUE_S = 1.0
"""What would have to wait longer for its turn is dropped, as routers do."""


def tap(pid: int, name: str) -> int:
    """Return a device in the network of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(namespace)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_PI))
    return fd


class Direction:
    def __init__(self, target: int, delay_s: float, loss: float, bits_per_s: float) -> None:
        self._target = target
        self._delay_s, self._loss, self._bits_per_s = delay_s, loss, bits_per_s
        self._random = random.Random(7)
        self._free_at = 0.0
        self.under_way: list[tuple[float, int, bytes]] = []
        self._count = 0

    def take(self, frame: bytes, now: float) -> None:
        begins = max(now, self._free_at)
        if self._random.random() < self._loss or begins > now + _QUEUE_S:
            return
        self._free_at = begins + len(frame) * 8 / self._bits_per_s
        self._count += 1
        heapq.heappush(self.under_way, (self._free_at + self._delay_s, self._count, frame))

    def deliver(self, now: float) -> None:
        while self.under_way and self.under_way[0][0] <= now:
            frame = heapq.heappop(self.under_way)[2]
            try:
                os.write(self._target, frame)
            except OSError:
                continue  # the device is down: as lost as others


def main() -> None:
    near_pid, near_name, far_pid, far_name = sys.argv[1:5]
    delay_ms, loss_percent, rate_kbit = map(float, sys.argv[5:8])
    far, near = tap(int(far_pid), far_name), tap(int(near_pid), near_name)
    quality = (delay_ms / 1000, loss_percent / 100, rate_kbit * 1000)
    directions = {near: Direction(far, *quality), far: Direction(near, *quality)}
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        due = [one.under_way[0][0] for one in directions.values() if one.under_way]
        wait_s = max(0.0, min(due) - now) if due else None
        readable, _, _ = select.select([near, far, sys.stdin], [], [], wait_s)
        now = time.monotonic()
        if sys.stdin in readable:
            return
        for fd in (near, far):
            if fd in readable:
                try:
                    directions[fd].take(os.read(fd, _FRAME_BYTES), now)
                except OSError:
                    continue  # down
            directions[fd].deliver(now)


if __name__ == "__main__":
    main()
