"""`onefold demo stop`, `start` and `kill`: commands to a demo that runs in another terminal.

Stopping and killing signal the node's processes directly. Starting is asked of the demo itself, so that the node is
its child and ends with it, over a named pipe: opening one that nobody reads fails at once, which is how we know
whether a demo is running. The demo answers on a pipe that the command makes.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from pathlib import Path
from typing import BinaryIO

from onefold.config import Config
from onefold.demo_dir import control, find
from onefold.errors import OperatorError, UserError
from onefold.process import Running
from onefold.supervisor import ETCD_PID, ETCD_STOP_SECONDS, NODE_PID, NODE_STOP_SECONDS, SUPERVISOR_PID

STOP_SECONDS = NODE_STOP_SECONDS + ETCD_STOP_SECONDS + 2
START_SECONDS = 60.0
UP = "up"


def stop(data: Path, name: str) -> str:
    """Stop a node in order and wait for its end. Returns what to say."""
    config = _node(data, name)
    supervisor = _running(config, data)
    supervisor.send(signal.SIGTERM)
    if not supervisor.wait(STOP_SECONDS):
        raise OperatorError(
            f"{name} did not stop within {STOP_SECONDS:.0f} s", f"kill it: onefold demo kill {name} --data {data}"
        )
    return f"{name} is stopped"


def kill(data: Path, name: str, node_only: bool) -> str:
    """Kill a node's processes as the death of its machine would, or (`node_only`) the node process alone."""
    config = _node(data, name)
    supervisor = _running(config, data)
    node = Running.find(config.state / NODE_PID, str(config.path))
    if node_only:
        if node is None:
            raise UserError(f"the node process of {name} is not running just now", "try again in a moment")
        node.send(signal.SIGKILL)
        node.wait(STOP_SECONDS)
        return f"the node process of {name} is killed; its supervisor starts another"
    # The supervisor first: it would start the others again.
    victims = [supervisor, Running.find(config.state / ETCD_PID, str(config.state)), node]
    for victim in victims:
        if victim is not None:
            victim.send(signal.SIGKILL)
    if not all(victim.wait(STOP_SECONDS) for victim in victims if victim is not None):
        raise OperatorError(f"{name} is killed but does not end", "its disk may hang: see dmesg")
    return f"{name} is killed: supervisor, etcd and node"


def start(data: Path, name: str) -> str:
    """Have the running demo start a node again; returns once it is up."""
    config = _node(data, name)
    if Running.find(config.state / SUPERVISOR_PID, str(config.path)) is not None:
        raise UserError(f"{name} is running already", f"to stop it: onefold demo stop {name} --data {data}")
    answer = control(data).with_name(f"answer-{os.getpid()}")
    answer.unlink(missing_ok=True)
    os.mkfifo(answer, 0o600)
    # Held open for writing by us as well: the demo may open, write and close at any moment.
    descriptor = os.open(answer, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with _control(data) as pipe:
            pipe.write(f"start {name} {answer.name}\n".encode())
        said = _await(descriptor, data, name)
    finally:
        os.close(descriptor)
        answer.unlink(missing_ok=True)
    if said != UP:
        raise OperatorError(f"{name} did not start ({said})", f"see {config.state / 'onefold.log'}")
    return f"{name} is up"


def _await(descriptor: int, data: Path, name: str) -> str:
    demo = Running.find(control(data).with_name("demo.pid"), "onefold")
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    if demo is not None:
        waiting.register(demo, select.POLLIN)
    ready = [which for which, _ in waiting.poll(START_SECONDS * 1000)]
    if descriptor in ready:
        return os.read(descriptor, select.PIPE_BUF).decode().strip()
    if ready or demo is None:
        raise OperatorError(f"the demo in {data} ended meanwhile", f"start it: onefold demo --data {data}")
    raise OperatorError(f"{name} is not up after {START_SECONDS:.0f} s", f"see onefold status --data {data}")


def _node(data: Path, name: str) -> Config:
    """The node `name` of the demo that runs in `data`."""
    config = find(data, name)
    _control(data).close()
    return config


def _running(config: Config, data: Path) -> Running:
    supervisor = Running.find(config.state / SUPERVISOR_PID, str(config.path))
    if supervisor is None:
        raise UserError(
            f"{config.name} is stopped already", f"to start it: onefold demo start {config.name} --data {data}"
        )
    return supervisor


def _control(data: Path) -> BinaryIO:
    """The pipe to the running demo. Raises `UserError` if none runs."""
    try:
        return os.fdopen(os.open(control(data), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), "wb", buffering=0)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):
            raise OperatorError(
                f"cannot reach the demo in {data} ({error.strerror})", "run this as its user"
            ) from error
        raise UserError(f"no demo is running in {data}", f"start it: onefold demo --data {data}") from None
