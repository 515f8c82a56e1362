"""The service: its unit, as systemd itself judges it; what `install` does and refuses; and what completes commands.

systemd runs none of the machines that these tests run on: a stand-in for `systemctl` notes what it is told.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from one_node import ONEFOLD, OneNode, onefold

from onefold import service
from onefold.errors import OperatorError, UserError
from onefold.unit import MARK, OWNERS, Service, foreign, needed, quoted, unit

ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = 25
"""systemd's own measure, times ten: below 30 is what it calls OK."""

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not there to judge the unit")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change services")


@pytest.fixture
def node(tmp_path: Path) -> OneNode:
    return OneNode(tmp_path)


def judged(text: str, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    file = place / "onefold-test.service"
    file.write_text(text)
    return subprocess.run([ANALYZE, *words, "--no-pager", str(file)], capture_output=True, text=True, timeout=60)


# ------------------------------------------------------------------------------------------------ the unit


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit_and_little_to_fear(node: OneNode, tmp_path: Path) -> None:
    text = unit(Service.of(node.config, "root", 0, {}))
    verified = judged(text, tmp_path, "verify")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    os.chown(node.config.folder, 65_534, 65_534)
    humble = unit(Service.of(node.config, "nobody", 65_534, {}))
    assert "CapabilityBoundingSet=\nAmbientCapabilities=\n" in humble
    security = judged(humble, tmp_path, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}")
    assert security.returncode == 0, security.stdout


@needs_systemd
def test_odd_paths_mean_the_same_to_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "50%h a\"b' $HOME \\x é; #"
    place.mkdir()
    node = OneNode(place)
    program = tmp_path / "50%h é; # $x" / "python"  # quotes and backslashes systemd refuses there
    program.parent.mkdir()
    program.symlink_to("/bin/true")
    monkeypatch.setattr(sys, "executable", str(program))
    text = unit(Service.of(node.config, "root", 0, {"ONEFOLD_ETCD_BINARY": "e %t $x"}))
    verified = judged(text, tmp_path, "verify")  # which looks whether the program can be executed
    assert (verified.returncode, verified.stderr) == (0, ""), text
    program.unlink()
    assert judged(text, tmp_path, "verify").returncode != 0


def test_words_are_quoted_as_a_unit_wants_them() -> None:
    assert quoted("/srv/www") == "/srv/www"
    assert quoted('a b"c') == '"a b\\"c"'
    assert quoted("50%") == "50%%"
    assert quoted("a\nb") == '"a\\x0ab"'
    assert quoted("") == '""'


def test_the_unit_names_what_may_be_written_and_hides_homes_and_temporaries_unless_needed(
    node: OneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = node.config
    text = unit(Service.of(config, "onefold", 1, {}))
    assert f"ReadWritePaths={config.folder} {config.state}\n" in text
    monkeypatch.setattr("onefold.unit.TEMPORARIES", (node.place.resolve(),))
    monkeypatch.setattr("onefold.unit.HOMES", ())
    text = unit(Service.of(config, "onefold", 1, {}))
    assert "PrivateTmp=no\n" in text and "ProtectHome=yes\n" in text
    monkeypatch.setattr("onefold.unit.TEMPORARIES", ())
    monkeypatch.setattr("onefold.unit.HOMES", (node.place.resolve(),))
    text = unit(Service.of(config, "onefold", 1, {}))
    assert "PrivateTmp=yes\n" in text and "ProtectHome=read-only\n" in text


def test_settings_given_as_variables_are_written_into_the_unit(node: OneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(node.place)
    given = {"ONEFOLD_QUIET_MS": "20", "ONEFOLD_STATE": "elsewhere", "ONEFOLD_SEED": "7", "HOME": "/root"}
    text = unit(Service.of(node.config, "onefold", 1, given))
    told = [line for line in text.splitlines() if line.startswith("Environment=ONEFOLD")]
    assert told == ["Environment=ONEFOLD_QUIET_MS=20", f"Environment=ONEFOLD_STATE={node.place / 'elsewhere'}"]


def test_an_etcd_that_systemd_would_not_find_is_put_on_its_path(node: OneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    program = node.place / "bin" / "odd-etcd"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ONEFOLD_ETCD_BINARY", "odd-etcd")
    assert f"Environment=PATH={program.parent}:/usr/local/sbin" in unit(Service.of(node.config, "onefold", 1, {}))


@needs_root
def test_capabilities_are_given_for_files_of_others_and_low_ports_only(node: OneNode) -> None:
    folder = node.config.folder
    for place in (folder, folder / "a", folder / "a" / "b"):
        place.mkdir(exist_ok=True)
        os.chown(place, 1, 1)
    assert not foreign(folder, 1)
    assert needed(Service.of(node.config, "daemon", 1, {})) == ()
    os.chown(folder / "a" / "b", 2, 2)
    assert foreign(folder, 1)
    assert needed(Service.of(node.config, "daemon", 1, {})) == OWNERS
    text = unit(Service.of(node.config, "root", 0, {}))
    assert f"CapabilityBoundingSet={' '.join(OWNERS)}\nAmbientCapabilities=\n" in text
    node.path.write_text('api.listen = "127.0.0.1:443"\n' + node.path.read_text())
    assert needed(Service.of(node.config, "daemon", 1, {})) == (*OWNERS, "CAP_NET_BIND_SERVICE")


# ------------------------------------------------------------------------------------------------ install


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine run by systemd, as far as `install` can see: the directory of its units; `told` is beside it."""
    units = tmp_path / "units"
    units.mkdir()
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/told"\ncat "{tmp_path}/answer" 2>/dev/null || true\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(service, "UNITS", units)
    monkeypatch.setattr(service, "RUNTIME", units)
    return units


def told(systemd: Path) -> list[str]:
    file = systemd.parent / "told"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@needs_root
def test_install_writes_the_unit_and_starts_it_and_uninstall_takes_both_back(node: OneNode, systemd: Path) -> None:
    file = systemd / "www.service"
    for _ in range(2):  # again, after the settings changed
        done = service.install(node.config, "root", "www", {"ONEFOLD_QUIET_MS": "20"})
        assert done[0] == f"wrote {file}"
        assert file.read_text() == unit(Service.of(node.config, "root", 0, {"ONEFOLD_QUIET_MS": "20"}))
        assert told(systemd) == ["daemon-reload", "enable www", "restart www"]
    assert file.stat().st_mode & 0o777 == 0o644
    assert service.uninstall("www")
    assert told(systemd) == ["disable --now www", "daemon-reload"]
    assert not list(systemd.iterdir())
    assert node.config.state.is_dir()
    with pytest.raises(UserError, match="--unit"):
        service.uninstall("www")


@needs_root
def test_install_refuses_before_it_changes_anything(node: OneNode, systemd: Path) -> None:
    (systemd / "www.service").write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(OperatorError, match="was not made by this command"):
        service.install(node.config, "root", "www", {})
    with pytest.raises(OperatorError, match="was not made by this command"):
        service.uninstall("www")
    (node.place / "precious").mkdir()
    (node.place / "precious" / "file").touch()
    with pytest.raises(OperatorError, match="holds files that are not a node's"):
        service.install(node.config._replace(state=node.place / "precious"), "root", "other", {})
    wrong = node.path.with_name("wrong.toml")
    wrong.write_text(node.path.read_text().replace("www", "w w"))
    with pytest.raises(OperatorError, match=r"cannot run this Onefold, or read .*`folder_id` is 'w w'"):
        service.install(node.config._replace(path=wrong), "root", "other", {})
    with pytest.raises(OperatorError, match="there is no folder"):
        service.install(node.config._replace(folder=node.place / "none"), "root", "other", {})
    assert [path.name for path in systemd.iterdir()] == ["www.service"]
    assert told(systemd) == []


@needs_root
def test_a_user_who_may_not_read_the_settings_is_named(node: OneNode, systemd: Path) -> None:
    node.place.chmod(0o700)
    with pytest.raises(OperatorError, match=r"the user nobody cannot run this Onefold, or read"):
        service.install(node.config, "nobody", "www", {})


def test_where_systemd_does_not_run_the_machine_the_unit_can_still_be_printed(node: OneNode) -> None:
    if not service.RUNTIME.is_dir():
        refused = onefold("service", "install", "--config", str(node.path))
        assert refused.returncode == 3
        assert f"onefold service install --print --config {node.path}" in refused.stderr
    printed = onefold("service", "install", "--print", "--user", "no-such-user", "--config", str(node.path))
    assert printed.stdout.startswith(MARK)
    assert "User=no-such-user\n" in printed.stdout
    assert ONEFOLD[0] in printed.stdout


def test_status_is_that_of_systemd(systemd: Path) -> None:
    answer = systemd.parent / "answer"
    facts = "LoadState=loaded\nActiveState={}\nSubState=running\nUnitFileState=enabled\nStatusText=leads; 3 files\n"
    answer.write_text(facts.format("active"))
    assert service.status("www", False) == "www is active (leads; 3 files), starts at boot"
    assert '"StatusText": "leads; 3 files"' in service.status("www", True)
    answer.write_text(facts.format("failed"))
    with pytest.raises(OperatorError, match="www is failed"):
        service.status("www", False)
    answer.write_text("LoadState=not-found\nActiveState=inactive\nSubState=dead\n")
    with pytest.raises(OperatorError, match="there is no service www"):
        service.status("www", False)


def deny_writable_code() -> None:
    """In a child, before it executes: PR_SET_MDWE, which Linux has from 6.3 on."""
    if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
        os._exit(77)


def test_a_node_works_without_memory_that_is_writable_and_executable(node: OneNode) -> None:
    """Of what the unit takes away, `MemoryDenyWriteExecute=` is what libraries most often break under."""
    if subprocess.run(["true"], preexec_fn=deny_writable_code).returncode:
        pytest.skip("this kernel cannot take that away")
    try:
        node.start(before=deny_writable_code)
        node.ready()
    finally:
        node.close()


# ------------------------------------------------------------------------------------------------ completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_accepts_its_completion(tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    script = onefold("completion", shell).stdout
    assert "_ONEFOLD_COMPLETE" in script
    if program is not None:
        (tmp_path / "script").write_text(script)
        assert subprocess.run([program, "-n", str(tmp_path / "script")], timeout=30).returncode == 0


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    (tmp_path / "onefold").write_text(f'#!/bin/sh\nexec {" ".join(ONEFOLD)} "$@"\n')
    (tmp_path / "onefold").chmod(0o755)

    def completed(*line: str) -> list[str]:
        words = " ".join(f"'{word}'" for word in line)
        script = f"""
            eval "$(onefold completion bash)"
            COMP_WORDS=({words}) COMP_CWORD={len(line) - 1}
            _onefold_completion onefold
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=os.environ | {"PATH": path}
        )
        return done.stdout.split()

    assert "status" in completed("onefold", "st")
    assert completed("onefold", "service", "un") == ["uninstall"]
    assert "--quiet-ms" in completed("onefold", "run", "--qu")


def test_a_shell_that_is_not_known_is_refused() -> None:
    refused = onefold("completion", "tcsh")
    assert (refused.returncode, refused.stderr) == (
        2,
        "onefold: there is no completion for tcsh: name one: bash, zsh, fish\n",
    )
    assert "complete" in onefold("completion", SHELL="/usr/bin/bash").stdout
    assert onefold("completion", SHELL="").returncode == 2
