"""`onefold service`: a node as a service of systemd, started at boot."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from onefold.atomic import replace_file
from onefold.claim import STATE_ID, check_certificates, check_folder, check_places
from onefold.config import Config
from onefold.errors import OperatorError, UserError
from onefold.unit import MARK, PROGRAMS, Service, needed, unit

UNITS = Path("/etc/systemd/system")
RUNTIME = Path("/run/systemd/system")
"""There where systemd is what runs the machine."""
NOLOGIN = "/usr/sbin/nologin"
OURS = frozenset((STATE_ID, "tls"))
"""What a state directory holds, at least one of them."""
SECONDS = 120.0
SHOWN = ("LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "MainPID", "NRestarts")


def printed(config: Config, user: str, environment: Mapping[str, str]) -> str:
    """The unit that `install` would write. A user that does not exist owns no file yet."""
    uid = _uid(user)
    return unit(Service.of(config, user, -1 if uid is None else uid, environment))


def install(config: Config, user: str, name: str, environment: Mapping[str, str]) -> list[str]:
    """Make the user, give it the state directory, write the unit, enable and start it: what was done, in sentences.

    Whatever is there already stays; a unit of that name that is not ours is not touched. Raises `OperatorError`.
    """
    _need_systemd(f"onefold service install --print --config {config.path}")
    _need_root()
    file = _unit_file(name)
    check_folder(config)
    check_places(config)
    check_certificates(config)
    done = []
    if _uid(user) is None:
        _make_user(user, config.state)
        done.append(f"made the user {user}")
    service = Service.of(config, user, pwd.getpwnam(user).pw_uid, environment)
    _give(config.state, user)
    _check_as(service)
    replace_file(file, unit(service).encode(), 0o644)
    done.append(f"wrote {file}")
    capabilities = needed(service)
    if capabilities and service.uid:
        done.append(f"it has {' '.join(capabilities)}, for files of other users or low ports")
    _systemctl("daemon-reload")
    _systemctl("enable", name)
    _systemctl("restart", name)
    done.append(f"{name} runs, and starts at boot; its log: journalctl -u {name}")
    return done


def uninstall(name: str) -> list[str]:
    """Stop and remove the service; user, folder and state directory stay. Raises `OperatorError`."""
    _need_systemd("")
    _need_root()
    file = _unit_file(name)
    if not file.exists():
        raise UserError(f"there is no {file}", "name the service with --unit")
    _systemctl("disable", "--now", name)
    file.unlink()
    _systemctl("daemon-reload")
    return [f"stopped and removed {name}; its user, folder and state directory stay"]


def status(name: str, as_json: bool) -> str:
    """How the service is. Raises `OperatorError` when it does not run."""
    _need_systemd("")
    told = _systemctl("show", f"--property={','.join(SHOWN)}", name)
    facts = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    if facts.get("LoadState") != "loaded":
        raise OperatorError(f"there is no service {name}", "onefold service install")
    if facts["ActiveState"] not in ("active", "reloading"):
        raise OperatorError(f"{name} is {facts['ActiveState']} ({facts['SubState']})", f"see journalctl -u {name}")
    if as_json:
        return json.dumps({"unit": name, **{key: facts.get(key, "") for key in SHOWN}}, indent=2)
    boot = "starts at boot" if facts["UnitFileState"] == "enabled" else "does not start at boot"
    return f"{name} is {facts['ActiveState']} ({facts['StatusText'] or facts['SubState']}), {boot}"


def _need_systemd(instead: str) -> None:
    if not RUNTIME.is_dir():
        raise OperatorError("this machine is not run by systemd", instead or "look at the node with onefold status")


def _need_root() -> None:
    if os.geteuid() != 0:
        raise OperatorError("only root may change services", "use sudo")


def _unit_file(name: str) -> Path:
    """Raises `OperatorError` when a unit of that name is not ours."""
    file = UNITS / f"{name}.service"
    if file.exists() and not file.read_text(errors="replace").startswith(MARK):
        raise OperatorError(f"{file} was not made by this command", "name another service with --unit, or remove it")
    return file


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _make_user(user: str, home: Path) -> None:
    _run("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(home), "--shell", NOLOGIN, user)


def _give(state: Path, user: str) -> None:
    """The state directory, and all in it, belongs to whoever runs the node. Raises `OperatorError`."""
    entry = pwd.getpwnam(user)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = os.listdir(state)
        if names and not OURS.intersection(names):  # a slip in the settings must not cost somebody else's files
            raise OperatorError(f"{state} holds files that are not a node's", "set `state` to a directory of its own")
        for directory, inner, files in os.walk(state):
            for place in (directory, *(os.path.join(directory, each) for each in (*inner, *files))):
                os.chown(place, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    except OSError as error:
        raise OperatorError(
            f"cannot give {error.filename or state} to {user} ({error.strerror})", "check the state directory's disk"
        ) from error


def _check_as(service: Service) -> None:
    """Raises `OperatorError` unless the service's user may run us, read the settings, and write the folder."""
    words = [*service.command[:-3], "config", "check", *service.command[-2:]]
    said = _as_user(service, words)
    if said:
        raise OperatorError(
            f"the user {service.user} cannot run this Onefold, or read {service.config.path} ({said})",
            "install Onefold outside of homes (in /opt, say), let that user read the settings, or name another --user",
        )
    folder = service.config.folder
    if not needed(service) and _as_user(service, ["test", "-r", folder, "-a", "-w", folder, "-a", "-x", folder]):
        raise OperatorError(
            f"the user {service.user} cannot write the folder {folder}",
            "give it read, write and search permission there, and search permission above it",
        )


def _as_user(service: Service, words: Sequence[str | Path]) -> str:
    """Why the command fails that the service's user gives; "" when it does not."""
    entry = pwd.getpwnam(service.user)
    try:
        done = subprocess.run(
            words,
            cwd="/",
            env={"PATH": PROGRAMS, **service.environment},
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=os.getgrouplist(service.user, entry.pw_gid),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1].removeprefix("onefold: ") if lines else f"exit code {done.returncode}"


def _systemctl(*words: str) -> str:
    return _run("systemctl", *words)


def _run(*words: str) -> str:
    """The output of a program of the system. Raises `OperatorError` when it fails."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OperatorError(f"{words[0]} does not run ({error})", "mend that") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().replace("\n", "; ")
        raise OperatorError(f"`{' '.join(words)}` failed ({said or f'exit code {done.returncode}'})", "mend that")
    return done.stdout
