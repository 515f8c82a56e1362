"""Settings from variables and options: which wins, what is wrong with them, who is told, and what `config` shows."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from one_node import ONEFOLD, OneNode, onefold

from onefold.config import load, trace
from onefold.errors import BadSetting
from onefold.overrides import OTHERS, SERVICE, Origin, as_environment, parse
from onefold.settings import BY_OPTION, BY_VARIABLE, PLAIN

GOOD = """
name = "a"
folder = "folder"
folder_id = "www"
quiet_ms = 20
[[members]]
name = "a"
address = "127.0.0.1:7400"
"""
PROJECT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(GOOD)
    return path


def test_an_option_wins_over_a_variable_a_variable_over_the_file_the_file_over_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> tuple[int, Origin]:
        config, origins = trace(file, options)
        return config.quiet_ms, origins["quiet_ms"]

    options = {"quiet_ms": "40"}
    monkeypatch.setenv("ONEFOLD_QUIET_MS", "30")
    assert seen() == (40, ("option", "--quiet-ms"))
    options = {}
    assert seen() == (30, ("environment", "ONEFOLD_QUIET_MS"))
    monkeypatch.delenv("ONEFOLD_QUIET_MS")
    assert seen() == (20, ("file", str(file)))
    file.write_text(GOOD.replace("quiet_ms = 20\n", ""))
    assert seen() == (50, ("default", ""))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ONEFOLD_ETCD_HEARTBEAT_MS", "50", lambda c: c.etcd.heartbeat_ms == 50),
        ("ONEFOLD_SMALL_BYTES_MAX", "1_024", lambda c: c.small_bytes_max == 1024),
        ("ONEFOLD_PREFERRED", "Yes", lambda c: c.preferred is True),
        ("ONEFOLD_API_ENABLED", "0", lambda c: c.api.enabled is False),
        ("ONEFOLD_WRITERS", "any", lambda c: c.writers == "any"),
        ("ONEFOLD_API_LISTEN", "[::1]:443", lambda c: c.api.listen == ("::1", 443)),
        (
            "ONEFOLD_ETCD_ENDPOINTS",
            "https://10.0.0.8:2379, 10.0.0.9:2379",
            lambda c: c.etcd.endpoints == (("10.0.0.8", 2379), ("10.0.0.9", 2379)),
        ),
        ("ONEFOLD_ETCD_ENDPOINTS", "", lambda c: c.etcd.endpoints == ()),
        ("ONEFOLD_STATE", "elsewhere", lambda c: c.state == Path.cwd() / "elsewhere"),
        ("ONEFOLD_TLS_CA", "/etc/ca.crt", lambda c: c.tls.ca == c.etcd.tls.ca == Path("/etc/ca.crt")),
    ],
)
def test_a_variable_says_what_the_file_could_say(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.chdir(file.parent / "..")
    monkeypatch.setenv(name, text)
    assert callable(value)
    assert value(load(file))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("ONEFOLD_QUIET_MS", "soon", "the environment variable `ONEFOLD_QUIET_MS` is 'soon': give a whole number"),
        ("ONEFOLD_QUIET_MS", "0", "give a whole number from 1 to 2000 ms"),
        ("ONEFOLD_QUIET_MS", "", "give a whole number"),
        ("ONEFOLD_PREFERRED", "maybe", "give true or false"),
        ("ONEFOLD_WRITERS", "all", 'give "leader" or "any"'),
        ("ONEFOLD_LISTEN", "127.0.0.1:7500", "`ONEFOLD_LISTEN` is 127.0.0.1:7500, but the members reach a at"),
        ("ONEFOLD_ETCD_ELECTION_MS", "100", "`ONEFOLD_ETCD_ELECTION_MS` is 100: give at least 500"),
        ("ONEFOLD_QUIET_SM", "1", "`ONEFOLD_QUIET_SM` is no setting: did you mean `ONEFOLD_QUIET_MS`?"),
        ("ONEFOLD_MEMBERS", "a", "`ONEFOLD_MEMBERS` is no setting"),
        ("ONEFOLD_XYZZY", "1", "unset it, or see docs/settings.md"),
    ],
)
def test_what_is_wrong_with_a_variable_is_one_sentence_that_names_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, says: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(BadSetting) as caught:
        load(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_option_that_is_wrong_is_named_as_it_was_given(file: Path) -> None:
    with pytest.raises(BadSetting, match=r"the option `--quiet-ms` is 0: give"):
        load(file, {"quiet_ms": "0"})


def test_what_a_hook_a_test_or_kubernetes_is_told_is_no_setting_and_no_mistake(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_PEERS", "PORT", "PORT_7400_TCP", "PORT_7400_TCP_ADDR")
    told = [*OTHERS, *(f"ONEFOLD_{name}" for name in kubernetes), "ONEFOLD_WEB_1_SERVICE_HOST"]
    for name in told:
        monkeypatch.setenv(name, "x")
    assert load(file).quiet_ms == 20


def test_every_variable_of_ours_that_anything_here_reads_is_known() -> None:
    read = set()
    for path in PROJECT.rglob("*"):
        if path.suffix in (".py", ".sh", ".yaml") and not {".venv", "node_modules"} & set(path.parts):
            read |= set(re.findall(r"[\"'$ {](ONEFOLD_[A-Z_]*[A-Z])\b", path.read_text()))
    invented = {"ONEFOLD_QUIET_SM", "ONEFOLD_MEMBERS", "ONEFOLD_XYZZY"}
    assert {name for name in read if not SERVICE.fullmatch(name)} - invented <= BY_VARIABLE.keys() | OTHERS


def test_names_of_variables_and_options_are_each_one_settings_and_none_hides_another_option() -> None:
    assert len(BY_VARIABLE) == len(BY_OPTION) == len(PLAIN)
    assert not OTHERS & BY_VARIABLE.keys()
    assert not {"--config", "--data", "--json", "--help", "--timeout"} & BY_OPTION.keys()


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("--config f", ("f", {})),
        ("--quiet-ms 5 --config=f --etcd-heartbeat-ms=9", ("f", {"quiet_ms": "5", "etcd.heartbeat_ms": "9"})),
        ("--config f --preferred --no-api-enabled", ("f", {"preferred": "true", "api.enabled": "false"})),
        ("--config f --quiet-ms 5 --quiet-ms 6", ("f", {"quiet_ms": "6"})),
        ("--quiet-ms 5", None),
        ("--config f --quiet-ms", None),
        ("--config f --quiet 5", None),
        ("--config f --preferred=true", None),
        ("--config f --no-quiet-ms", None),
        ("--config f --help", None),
        ("--config f more", None),
    ],
)
def test_a_resident_process_reads_its_options_without_the_command_lines_libraries(words: str, given: object) -> None:
    assert parse(words.split()) == given


def test_both_ways_to_read_options_agree(file: Path) -> None:
    """`config show` goes through the command line's library, `run` usually does not."""
    words = ["--config", str(file), "--quiet-ms", "33", "--no-api-enabled", "--etcd-endpoints", "h:1,h:2"]
    shown = json.loads(onefold("config", "show", "--json", *words).stdout)
    given = parse(words)
    assert given is not None
    config, origins = trace(file, given[1])
    by_name = {each["name"]: each for each in shown["settings"]}
    assert list(by_name) == [setting.name for setting in PLAIN]
    for name, origin in origins.items():
        assert by_name[name]["origin"] == origin.kind
        assert origin.kind != "option" or by_name[name]["where"] == origin.name
    assert by_name["etcd.endpoints"]["value"] == [str(address) for address in config.etcd.endpoints] == ["h:1", "h:2"]
    assert by_name["api.enabled"] == {
        "name": "api.enabled",
        "value": False,
        "unit": "",
        "origin": "option",
        "where": "--no-api-enabled",
    }


def test_run_with_options_loads_nothing_that_a_terminal_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [ONEFOLD[0], "-X", "importtime", *ONEFOLD[1:], "run", "--quiet-ms", "5", "--config", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "onefold.overrides" in loaded
    assert not {"typer", "rich", "asyncio", "msgspec"} & loaded


# ------------------------------------------------------------------------------------------------ config show


def test_the_line_of_a_setting_is_the_one_where_it_begins(file: Path) -> None:
    file.write_text(
        'name = "a"\nfolder = """\\\n  quiet_ms = 7 \\\n"""\n# scrub_days = 1\nfolder_id = "www"\n'
        'etcd.endpoints = [\n  "h:1",\n\n  "h:2",\n]\nscrub_days = 2\n[tls]\nca = "ca"\n' + GOOD[GOOD.index("[[") :]
    )
    done = onefold("config", "show", "--json", "--config", str(file))
    origins = {each["name"]: each["where"] for each in json.loads(done.stdout)["settings"] if each["origin"] == "file"}
    lines = {name: int(where.removeprefix(f"{file}:")) for name, where in origins.items()}
    assert lines == {"name": 1, "folder": 2, "folder_id": 6, "etcd.endpoints": 7, "scrub_days": 12, "tls.ca": 14}


def test_config_show_prints_a_line_for_each_setting_and_member(file: Path) -> None:
    with file.open("a") as more:
        more.write('[[hooks]]\nmatch = "*.conf"\nrun = ["nginx", "-s", "reload"]\n')
    done = onefold("config", "show", "--config", str(file), ONEFOLD_SCRUB_DAYS="3")
    assert f"quiet_ms  20 ms  file {file}:5\n" in done.stdout
    assert "scrub_days  3 days  environment ONEFOLD_SCRUB_DAYS\n" in done.stdout
    assert "api.enabled  true  default\n" in done.stdout
    assert "member a  127.0.0.1:7400, voter" in done.stdout
    assert f"hook nginx  nginx -s reload, for *.conf  file {file}\n" in done.stdout
    assert len(done.stdout.splitlines()) == len(PLAIN) + 2


def test_config_check_says_that_all_is_well_or_what_is_wrong(file: Path) -> None:
    assert onefold("config", "check", "--config", str(file)).stdout == f"the settings in {file} are valid\n"
    wrong = onefold("config", "check", "--config", str(file), "--quiet-ms", "0")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "onefold: the option `--quiet-ms` is 0: give a whole number from 1 to 2000 ms\n"


# ------------------------------------------------------------------------------------------------ the children


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_options_of_the_supervisor_reach_the_node_and_win_over_variables(tmp_path: Path) -> None:
    node = OneNode(tmp_path)
    try:
        options = {"log_level": "debug", "etcd.heartbeat_ms": "50", "api.enabled": "false"}
        words = ("--log-level", "debug", "--etcd-heartbeat-ms=50", "--no-api-enabled")
        node.start(*words, ONEFOLD_LOG_LEVEL="error", ONEFOLD_QUIET_MS="25")
        told = environment(node.pid("node"))
        assert as_environment(options).items() <= told.items()
        assert told["ONEFOLD_QUIET_MS"] == "25"
        etcd = Path(f"/proc/{node.pid('etcd')}/cmdline").read_bytes().split(b"\0")
        assert b"--heartbeat-interval=50" in etcd
        node.ready()
    finally:
        node.close()
