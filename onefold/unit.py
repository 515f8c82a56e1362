"""The systemd unit of a node: as little of the machine as it can work with."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from onefold.config import Config
from onefold.settings import BY_VARIABLE
from onefold.supervisor import ETCD_STOP_SECONDS, NODE_STOP_SECONDS

MARK = "# Made by `onefold service install`, which replaces it."
WATCHDOG_SECONDS = 60
START_SECONDS = 900
"""A node that puts a large folder in order after a crash takes long until its doors are open."""
STOP_SECONDS = int(NODE_STOP_SECONDS + ETCD_STOP_SECONDS) + 11
WRONG_SETTING = 2
"""The exit code of what another start does not mend."""
HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))
TEMPORARIES = tuple(map(Path, ("/tmp", "/var/tmp")))  # noqa: S108
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""Where systemd looks for programs."""
PRIVILEGED_PORTS = 1024
OWNERS = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_LEASE")
"""What it takes to replicate files of several users: read and replace them, keep their owner, set mode and time, and
see whether somebody is writing."""
ENTRIES_MAX = 10_000


class Service(NamedTuple):
    """`user` with the id `uid` runs the node of `config`. `environment`: settings that it is given beside the file."""

    config: Config
    user: str
    uid: int
    environment: Mapping[str, str]

    @classmethod
    def of(cls, config: Config, user: str, uid: int, environment: Mapping[str, str]) -> Service:
        """With what `environment` says of settings, paths made absolute: the service has no working directory."""
        given = {
            name: str(Path(text).absolute()) if BY_VARIABLE[name].kind == "path" else text
            for name, text in environment.items()
            if name in BY_VARIABLE
        }
        return cls(config, user, uid, given)

    @property
    def writes(self) -> tuple[Path, ...]:
        return self.config.folder, self.config.state

    @property
    def reads(self) -> tuple[Path, ...]:
        config = self.config
        program = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent)
        return (config.path, *config.tls, *config.etcd.tls, config.api.cert, config.api.key, *program)

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-P", "-m", "onefold", "run", "--config", str(self.config.path))


def unit(service: Service) -> str:
    """The text of the unit."""
    config = service.config
    program, *arguments = map(quoted, service.command)
    capabilities = " ".join(needed(service))
    writes = " ".join(map(quoted, service.writes))
    everything = (*service.reads, *service.writes)
    lines = [
        MARK,
        "",
        "[Unit]",
        f"Description=Onefold: the node {config.name} of {config.folder_id}",
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        f"RequiresMountsFor={quoted(config.path)} {writes}",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"User={service.user}",
        f"ExecStart={program} {' '.join(word.replace('$', '$$') for word in arguments)}",
        *(f"Environment={quoted(f'{name}={text}')}" for name, text in _variables(service).items()),
        "Restart=on-failure",
        "RestartSec=2",
        f"RestartPreventExitStatus={WRONG_SETTING}",
        f"TimeoutStartSec={START_SECONDS}",
        f"TimeoutStopSec={STOP_SECONDS}",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        "# The supervisor ends what hangs, and etcd in order.",
        "WatchdogSignal=SIGTERM",
        "KillMode=mixed",
        "# It starts again whichever of its children was killed for want of memory.",
        "OOMPolicy=continue",
        "LimitNOFILE=65536",
        "",
        f"ReadWritePaths={writes}",
        "ProtectSystem=strict",
        f"ProtectHome={'read-only' if _any_in(everything, HOMES) else 'yes'}",
        f"PrivateTmp={'no' if _any_in(everything, TEMPORARIES) else 'yes'}",
        *FIXED,
        f"CapabilityBoundingSet={capabilities}",
        f"AmbientCapabilities={capabilities if service.uid else ''}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return "\n".join(lines)


FIXED = (
    "PrivateDevices=yes",
    "PrivateMounts=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "NoNewPrivileges=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RemoveIPC=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)


def needed(service: Service) -> tuple[str, ...]:
    """The capabilities without which the node could not do its work, and no others."""
    config = service.config
    ports = [config.listen.port, *([config.api.listen.port] if config.api.enabled else [])]
    owners = OWNERS if service.uid == 0 or foreign(config.folder, service.uid) else ()
    return (*owners, *(("CAP_NET_BIND_SERVICE",) if min(ports) < PRIVILEGED_PORTS else ()))


def foreign(folder: Path, uid: int) -> bool:
    """Whether anything in the folder belongs to somebody else, as far as its first `ENTRIES_MAX` entries tell."""
    left, directories = ENTRIES_MAX, [folder]
    if folder.stat().st_uid != uid:
        return True
    while directories and left > 0:
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                left -= 1
                if entry.stat(follow_symlinks=False).st_uid != uid:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    directories.append(Path(entry.path))
    return False


def quoted(value: Path | str) -> str:
    """One word of a line of a unit, whatever is in it."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    text = "".join(char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode()) for char in text)
    return f'"{text}"' if any(char in text for char in " \\\"';#") or not text else text


def _variables(service: Service) -> dict[str, str]:
    found = dict(service.environment)
    binary = service.config.etcd.binary
    if service.config.runs_etcd and shutil.which(binary, path=PROGRAMS) is None:
        elsewhere = shutil.which(binary)
        if elsewhere is not None:
            found["PATH"] = f"{Path(elsewhere).parent}:{PROGRAMS}"
    return found


def _any_in(places: Iterable[Path], above: Iterable[Path]) -> bool:
    resolved = [place.resolve() for place in places]
    return any(place.is_relative_to(each) for place in resolved for each in above)
