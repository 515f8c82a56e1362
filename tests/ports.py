"""Ports for the nodes of tests."""

from __future__ import annotations

import socket


def first_free(candidates: range, count: int) -> int:
    """The first of `candidates` from which on nobody uses any of `count` ports just now."""
    for base in candidates:
        sockets = []
        try:
            for port in range(base, base + count):
                sockets.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
        return base
    raise AssertionError("no free ports")
