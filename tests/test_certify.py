"""`onefold certify`: certificates for the members of a cluster, made on one machine."""

import stat
from pathlib import Path

import pytest
from cryptography import x509

from onefold.certify import certify, within
from onefold.config import Config, load
from onefold.edge.tls import client_context, server_context
from onefold.errors import OperatorError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    settings = tmp_path / "node.toml"
    lines = ['name = "web1"', 'folder = "www"', 'folder_id = "www-7f3a"']
    for number in (1, 2):
        lines += ["[[members]]", f'name = "web{number}"', f'address = "10.0.0.{number}:7400"']
    settings.write_text("\n".join(lines) + "\n")
    return load(settings)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_every_member_gets_what_its_settings_expect(config: Config, tmp_path: Path) -> None:
    out = tmp_path / "certificates"
    assert certify(config, out) == [out / "web1", out / "web2"]
    names = {path.name for path in (out / "web1").iterdir()}
    assert names == {path.name for path in (*config.tls, *config.tls.admin)}
    for number in (1, 2):
        files = within(out / f"web{number}")
        for tls in (files, files.admin):
            server_context(*tls)
            client_context(*tls)
        hosts = certificate(files.cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert f"10.0.0.{number}" in map(str, hosts.get_values_for_type(x509.IPAddress))


def test_keys_are_readable_by_their_owner_only(config: Config, tmp_path: Path) -> None:
    certify(config, tmp_path / "out")
    keys = list((tmp_path / "out").rglob("*.key"))
    assert len(keys) == 5
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


def test_what_is_there_already_stays_as_it_is(config: Config, tmp_path: Path) -> None:
    out = tmp_path / "out"
    certify(config, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    missing = within(out / "web2")
    missing.cert.unlink()
    certify(config, out)
    changed = {path for path, data in before.items() if path.read_bytes() != data}
    assert changed == {missing.cert, missing.key}
    assert certificate(missing.cert).issuer == certificate(out / "ca.crt").subject


def test_an_authority_that_is_none_and_a_place_that_cannot_be_written_are_named(config: Config, tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_text("nothing")
    with pytest.raises(OperatorError, match="authority"):
        certify(config, tmp_path)
    with pytest.raises(OperatorError, match=r"cannot write .* choose another directory with --out"):
        certify(config, tmp_path / "ca.key" / "below")
