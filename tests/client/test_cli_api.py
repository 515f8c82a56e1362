"""The command line's way to the API: whom it asks, with which token, and whom it believes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nodes import Answer, fake_node

from onefold.cli_api import client
from onefold.config import Address, Config, load
from onefold.edge.tls import Authority
from onefold.errors import OperatorError

STATUS = Answer(200, {}, json.dumps({"node": "a", "leader": "b", "term": 3, "nodes": []}).encode())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A node of two, on whose machine this is. Nothing of it runs."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "token").write_text("secret\n")
    file = tmp_path / "node.toml"
    members = "".join(f'[[members]]\nname = "n{i}"\naddress = "127.0.0.1:{23_500 + 10 * i}"\n' for i in (1, 2))
    file.write_text(f'name = "n1"\nfolder = "folder"\nfolder_id = "f"\nstate = "state"\n{members}')
    loaded = load(file)
    authority = Authority.create(tmp_path / "authority")
    authority.issue("n1", [], loaded.tls.ca.parent, "f")
    return loaded


def at(config: Config, address: str) -> Config:
    host, _, port = address.rpartition(":")
    return config._replace(api=config.api._replace(listen=Address(host, int(port))))


def test_the_node_on_this_machine_is_asked_with_its_token(config: Config, tmp_path: Path) -> None:
    with fake_node(tmp_path / "authority", lambda asked: STATUS) as node:
        everywhere = node.address.replace("127.0.0.1", "0.0.0.0")
        with client(at(config, everywhere)) as asking:
            assert asking.status().leader == "b"
        assert node.asked[0].headers["authorization"] == "Bearer secret"


def test_another_member_is_asked_when_the_own_node_is_down(config: Config, tmp_path: Path) -> None:
    with fake_node(tmp_path / "authority", lambda asked: STATUS) as node:
        port = int(node.address.rpartition(":")[2])
        down = config._replace(
            members=(config.members[0], config.members[1]._replace(address=Address("127.0.0.1", port - 4)))
        )
        with client(down) as asking:
            assert asking.status().leader == "b"


def test_a_certificate_of_the_apis_own_is_believed_whatever_names_it_has(config: Config, tmp_path: Path) -> None:
    public = tmp_path / "public"
    with fake_node(public, lambda asked: STATUS) as node:
        own = public / "fake" / "node.crt"
        given = at(config, node.address)
        with client(given._replace(api=given.api._replace(cert=own))) as asking:
            assert asking.status().leader == "b"


def test_a_missing_token_is_named_with_its_place(config: Config) -> None:
    (config.state / "token").unlink()
    with pytest.raises(OperatorError, match="state/token"):
        client(config)


def test_a_node_that_serves_no_api_leaves_the_others(config: Config, tmp_path: Path) -> None:
    off = config._replace(api=config.api._replace(enabled=False))
    client(off).close()
    with pytest.raises(OperatorError, match="no node here serves the API"):
        client(off._replace(members=off.members[:1]))
