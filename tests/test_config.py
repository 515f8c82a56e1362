"""The settings: what is accepted, and the one sentence for what is not; what a node needs of its machine."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from ports import first_free

from onefold.certify import certify_node, open_authority
from onefold.claim import claim, locked_folder
from onefold.config import Config, load
from onefold.errors import BadSetting, OperatorError
from onefold.settings import SETTINGS, documentation

GOOD = """
name = "a"
folder = "folder"
folder_id = "www"
[[members]]
name = "a"
address = "127.0.0.1:7400"
[[members]]
name = "b"
address = "127.0.0.1:7410"
voter = false
"""

Make = Callable[[str], Config]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def write_and_load(text: str) -> Config:
        file = tmp_path / "node.toml"
        file.write_text(text)
        return load(file)

    return write_and_load


def test_a_small_file_is_enough_and_the_rest_has_defaults(make: Make, tmp_path: Path) -> None:
    config = make(GOOD)
    assert config.folder == tmp_path / "folder"
    assert config.state == tmp_path / ".onefold" / "a"
    assert config.listen == config.me.address == ("127.0.0.1", 7400)
    assert config.tls.cert == config.state / "tls" / "node.crt"
    assert config.etcd.tls == config.tls
    assert config.runs_etcd
    assert [member.name for member in config.voters] == ["a"]
    assert (config.writers, config.preferred, config.etcd.heartbeat_ms) == ("leader", False, 100)


def test_the_api_listens_on_the_port_after_the_others_unless_told_otherwise(make: Make, tmp_path: Path) -> None:
    api = make(GOOD).api
    assert (api.enabled, api.listen, api.connections_max) == (True, ("127.0.0.1", 7404), 200)
    assert api.cert == tmp_path / ".onefold" / "a" / "tls" / "node.crt"
    api = make(GOOD + '[api]\nlisten = "0.0.0.0:443"\ncert = "web.pem"\nkey = "web.key"\n').api
    assert (str(api.listen), api.cert, api.key) == ("0.0.0.0:443", tmp_path / "web.pem", tmp_path / "web.key")


def test_members_may_be_four_ports_apart_where_the_api_is_elsewhere_or_nowhere(make: Make) -> None:
    close = GOOD.replace("7410", "7404")
    assert not make(close + "[api]\nenabled = false\n").api.enabled
    assert make(close + '[api]\nlisten = "127.0.0.1:7500"\n').api.listen.port == 7500


def test_a_replica_runs_no_etcd(make: Make) -> None:
    assert not make(GOOD.replace('name = "a"\nfolder', 'name = "b"\nfolder')).runs_etcd


def test_with_an_etcd_of_their_own_nobody_runs_ours(make: Make) -> None:
    config = make(GOOD + '[etcd]\nendpoints = ["https://10.0.0.9:2379"]\nca = "/etc/ca.crt"\n')
    assert config.etcd.endpoints == (("10.0.0.9", 2379),)
    assert config.etcd.tls.ca == Path("/etc/ca.crt")
    assert not config.runs_etcd


def test_a_node_may_listen_on_all_addresses(make: Make) -> None:
    assert make('listen = "0.0.0.0:7400"' + GOOD).listen.host == "0.0.0.0"
    assert str(make('listen = "[::]:7400"' + GOOD).listen) == "[::]:7400"


def test_hooks_are_named_after_their_programs(make: Make, tmp_path: Path) -> None:
    config = make(
        GOOD
        + """
        [[hooks]]
        match = "*.conf"
        run = ["/usr/bin/systemctl", "reload", "nginx"]
        [[hooks]]
        name = "mine"
        match = ["/a/", "!*.bak"]
        run = ["bin/re load.sh"]
        debounce_ms = 1
        timeout_seconds = 5
        """
    )
    first, second = config.hooks
    assert first == ("systemctl", ("*.conf",), ("/usr/bin/systemctl", "reload", "nginx"), 500, 60)
    assert second == ("mine", ("/a/", "!*.bak"), (str(tmp_path / "bin" / "re load.sh"),), 1, 5)
    assert make(GOOD).hooks == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name == 1", "line 1"),
        ('nmae = "x"' + GOOD, "`nmae` is no setting: did you mean `name`?"),
        (GOOD + "[etcd]\nheartbeat = 1\n", "did you mean `etcd.heartbeat_ms`?"),
        (GOOD + "[etdc]\nx = 1\n", "`etdc` is no setting"),
        ("etcd = 3\n" + GOOD, "`etcd` is a table"),
        ("preferred = 1\n" + GOOD, "give true or false"),
        ("quiet_ms = true\n" + GOOD, "give a whole number from 1 to 2000 ms"),
        ("quiet_ms = 0\n" + GOOD, "give a whole number from 1 to 2000 ms"),
        ('writers = "all"\n' + GOOD, 'give "leader" or "any"'),
        ('state = ""\n' + GOOD, "give a path"),
        (GOOD.replace('folder_id = "www"', ""), "`folder_id` is missing"),
        (GOOD.replace('folder_id = "www"', 'folder_id = "a/b"'), "letters, digits and dashes"),
        (GOOD.replace('name = "a"\nfolder', 'name = "c"\nfolder'), "none of the members (a, b)"),
        (GOOD.replace('name = "b"', 'name = "a"'), "'a' is there twice"),
        (GOOD.replace('name = "b"', 'name = "admin"'), "reserved"),
        (GOOD.replace("7410", "7403"), "share a port"),
        (GOOD.replace("7410", "65533"), "give a port from 1 to 65532"),
        (GOOD.replace("127.0.0.1:7410", "7410"), 'write "host:port"'),
        (GOOD.replace('address = "127.0.0.1:7410"', ""), "`members.address` is missing"),
        (GOOD.replace("voter = false", "vote = false"), "did you mean `members.voter`?"),
        ('listen = "127.0.0.1:7500"' + GOOD, "the members reach a at 127.0.0.1:7400"),
        ("members = 3\n" + GOOD.partition("[[")[0], "write each as [[members]]"),
        (GOOD.partition("[[")[0], "names no voter"),
        (GOOD + "[etcd]\nelection_ms = 100\n", "give at least 500"),
        (GOOD + '[api]\nlisten = "127.0.0.1"\n', 'write "host:port"'),
        (GOOD + '[api]\nlisten = "127.0.0.1:7403"\n', "a port of a (for etcd's peers)"),
        (GOOD + '[api]\nlisten = "0.0.0.0:7402"\n', "a port of a (for etcd's clients)"),
        (GOOD.replace("7410", "7404"), "a port of b (for peers)"),
        (GOOD.replace("7400", "65532"), "`api.listen` would have port 65536"),
        (GOOD + '[api]\ncert = "web.pem"\n', "`api.key` is missing"),
        ("hooks = 3\n" + GOOD, "write each as [[hooks]]"),
        (GOOD + '[[hooks]]\nmatch = "*"\n', "`hooks.run` is missing"),
        (GOOD + '[[hooks]]\nmatch = "*"\nrun = "reload"\n', "give a list of texts"),
        (GOOD + '[[hooks]]\nmatch = []\nrun = ["reload"]\n', "none of them empty"),
        (GOOD + '[[hooks]]\nmatch = ["*", 3]\nrun = ["reload"]\n', "a pattern, or a list of them"),
        (GOOD + '[[hooks]]\nmatch = 3\nrun = ["reload"]\n', "a pattern, or a list of them"),
        (GOOD + '[[hooks]]\nmatch = "*"\nrun = ["reload", ""]\n', "none of them empty"),
        (GOOD + '[[hooks]]\nmatch = "*"\nrun = ["--"]\n', "give that hook a name"),
        (GOOD + 2 * '[[hooks]]\nmatch = "*"\nrun = ["reload"]\n', "'reload' is there twice"),
        (GOOD + '[[hooks]]\nmatch = "*"\nrun = ["reload"]\ntimeout = 3\n', "did you mean `hooks.timeout_seconds`?"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_fix(make: Make, text: str, says: str) -> None:
    with pytest.raises(BadSetting) as caught:
        make(text)
    assert says in str(caught.value)
    assert "node.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_in_another_encoding_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="there is no"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(BadSetting, match="not UTF-8"):
        load(tmp_path / "latin.toml")


def test_docs_name_every_setting_and_are_current() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    assert page == documentation(), "run scripts/write_settings_doc.py"
    assert all(f"`{setting.name.rpartition('.')[2]}`" in page for setting in SETTINGS)


# ------------------------------------------------------------------------------------------------ the claim


def free_ports() -> int:
    """The first of five ports that nobody uses, below those that the kernel gives to outgoing connections."""
    return first_free(range(10_000 + os.getpid() % 1000 * 8, 19_000, 8), 5)


@pytest.fixture
def config(make: Make, tmp_path: Path) -> Config:
    (tmp_path / "folder").mkdir()
    port = free_ports()
    config = make(GOOD.replace("7400", str(port)).replace("7410", str(port + 10)))
    config.state.mkdir(mode=0o700, parents=True)
    certify_node(open_authority(tmp_path / "authority"), "a", "127.0.0.1", "www", config.tls)
    return config


def claimed(config: Config) -> None:
    os.close(claim(config))


def test_a_claim_marks_folder_and_state_and_can_be_repeated(config: Config) -> None:
    claimed(config)
    claimed(config)
    assert (config.folder / ".onefold" / "id").read_text() == "www\n"
    assert config.state.stat().st_mode & 0o777 == 0o700


def test_two_nodes_cannot_claim_one_folder_or_one_state(config: Config, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    lock = claim(config)
    try:
        with pytest.raises(OperatorError, match="running on the state directory"):
            claim(config._replace(folder=tmp_path / "other"))
        with locked_folder(config), pytest.raises(OperatorError, match="running on the folder"):
            claim(config._replace(state=tmp_path / "elsewhere"))
    finally:
        os.close(lock)


def test_a_folder_that_is_missing_or_a_file_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="there is no folder"):
        claim(config._replace(folder=tmp_path / "none"))
    with pytest.raises(OperatorError, match="not a directory"):
        claim(config._replace(folder=config.path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_we_may_not_read_is_refused(config: Config) -> None:
    config.folder.chmod(0)
    try:
        with pytest.raises(OperatorError, match="cannot read the folder"):
            claim(config)
    finally:
        config.folder.chmod(0o755)


def test_folder_and_state_may_not_lie_in_each_other(config: Config) -> None:
    with pytest.raises(OperatorError, match="inside the folder"):
        claim(config._replace(state=config.folder / "state"))
    with pytest.raises(OperatorError, match="inside the state directory"):
        claim(config._replace(state=config.folder.parent))


def test_a_folder_inside_another_nodes_folder_or_state_is_refused(config: Config, tmp_path: Path) -> None:
    claimed(config)
    for place, what in ((config.folder, "a node's folder"), (config.state, "a node's state directory")):
        inner = place / "inner"
        inner.mkdir()
        with pytest.raises(OperatorError, match=what):
            claim(config._replace(folder=inner, state=tmp_path / "elsewhere"))


def test_a_folder_or_state_of_another_cluster_is_refused(config: Config, tmp_path: Path) -> None:
    claimed(config)
    with pytest.raises(OperatorError, match=r"the state directory .* belongs to the cluster www"):
        claim(config._replace(folder_id="other"))
    with pytest.raises(OperatorError, match=r"the folder .* belongs to the cluster www"):
        claim(config._replace(folder_id="other", state=tmp_path / "elsewhere"))


def test_a_folder_whose_disk_is_not_mounted_is_not_taken_for_an_emptied_one(config: Config) -> None:
    claimed(config)
    (config.folder / ".onefold" / "id").unlink()
    with pytest.raises(OperatorError, match="as if its disk were not mounted"):
        claim(config)


def test_a_claim_interrupted_between_the_two_ids_is_completed(config: Config) -> None:
    claimed(config)
    (config.state / "folder-id").unlink()
    claimed(config)
    assert (config.state / "folder-id").read_text() == "www\n"


def test_a_port_in_use_is_named_with_its_setting(config: Config) -> None:
    with socket.create_server(tuple(config.listen.plus(1))), pytest.raises(OperatorError) as caught:
        claim(config)
    assert f"port {config.listen.port + 1} " in str(caught.value)
    assert "`listen`" in str(caught.value)


def test_the_ports_and_certificates_of_the_api_are_looked_at_only_if_it_is_enabled(config: Config) -> None:
    without = config._replace(api=config.api._replace(enabled=False))
    with socket.create_server(tuple(config.api.listen)):
        with pytest.raises(OperatorError, match=r"for the API.*`api\.listen`"):
            claim(config)
        claimed(without)
    api = config.api._replace(cert=config.path.with_name("none.pem"))
    with pytest.raises(OperatorError, match=r"mend `api\.cert`"):
        claim(config._replace(api=api))
    claimed(without._replace(api=api._replace(enabled=False)))
