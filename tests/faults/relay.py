"""A bad line: carries frames between pairs of interfaces, late, and some of them never.

    python relay.py <interface>=<interface> …

A line of standard input, `<share lost> <seconds late>`, says how bad it is from now on; perfect at first. It ends with
its input. Segments that the kernel has not cut yet are carried whole, together with virtio's header, which says how.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import sys
import time
from collections import deque

ALL_PROTOCOLS = 0x0003
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
FRAME_BYTES_MAX = 1 << 17


def attach(interface: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, struct.pack("i", 1))
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, struct.pack("i", 1))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    end.bind((interface, ALL_PROTOCOLS))
    end.setblocking(False)
    return end


def relay(pairs: list[tuple[str, str]]) -> None:
    other: dict[int, socket.socket] = {}
    ends: dict[int, socket.socket] = {}
    waiting = select.poll()
    waiting.register(sys.stdin, select.POLLIN)
    for pair in pairs:
        one, two = map(attach, pair)
        for end, far in ((one, two), (two, one)):
            ends[end.fileno()] = end
            other[end.fileno()] = far
            waiting.register(end, select.POLLIN)
    lost, late = 0.0, 0.0
    underway: deque[tuple[float, socket.socket, bytes]] = deque()
    os.write(1, b"ready\n")
    while True:
        left = max(0.0, underway[0][0] - time.monotonic()) * 1000 if underway else None
        for descriptor, _ in waiting.poll(left):
            if descriptor == sys.stdin.fileno():
                said = os.read(descriptor, 4096).split()
                if not said:
                    return
                lost, late = float(said[-2]), float(said[-1])
                continue
            for frame in frames(ends[descriptor]):
                if random.random() >= lost:
                    underway.append((time.monotonic() + late, other[descriptor], frame))
        while underway and underway[0][0] <= time.monotonic():
            _, far, frame = underway.popleft()
            try:
                far.send(frame)
            except OSError:
                continue  # its queue is full, or the interface is just going: lost, as on any line


def frames(end: socket.socket, most: int = 64) -> list[bytes]:
    """What has arrived, up to so many."""
    found: list[bytes] = []
    try:
        while len(found) < most:
            found.append(end.recv(FRAME_BYTES_MAX))
    except BlockingIOError:
        pass
    return found


if __name__ == "__main__":
    relay([(pair.split("=")[0], pair.split("=")[1]) for pair in sys.argv[1:]])
