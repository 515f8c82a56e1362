"""The authority, its certificates, and who may talk to whom with them."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from onefold.edge.tls import Authority, TlsFiles, client_context, peer_name, server_context
from onefold.errors import BadSetting, OperatorError, PeerRefused


def issued(directory: Path, name: str, authority: Authority | None = None) -> TlsFiles:
    (authority or Authority.create(directory / "authority")).issue(name, ["10.1.2.3"], directory / name, "folder")
    return TlsFiles.within(directory / name)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after the handshake, without a network. Raises `ssl.SSLError` as either end does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def context_pair(server: TlsFiles, client: TlsFiles) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return (
        server_context(server.ca, server.certificate, server.key),
        client_context(client.ca, client.certificate, client.key),
    )


def test_each_end_learns_the_others_name(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "authority")
    ends = shake_hands(*context_pair(issued(tmp_path, "anna", authority), issued(tmp_path, "b-2.example", authority)))
    assert [peer_name(end) for end in ends] == ["b-2.example", "anna"]
    assert {end.version() for end in ends} == {"TLSv1.3"}


def test_g8_a_certificate_of_another_authority_is_refused_at_either_end(tmp_path: Path) -> None:
    ours, theirs = issued(tmp_path / "ours", "anna"), issued(tmp_path / "theirs", "anna")
    for server, client in ((ours, theirs), (theirs, ours)):
        with pytest.raises(ssl.SSLError):
            shake_hands(*context_pair(server, client))


def test_g8_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    files = issued(tmp_path, "anna")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(files.ca)
    with pytest.raises(ssl.SSLError):
        shake_hands(server_context(files.ca, files.certificate, files.key), bare)


def test_g8_older_versions_of_tls_are_refused(tmp_path: Path) -> None:
    server, client = context_pair(*[issued(tmp_path, "anna")] * 2)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(server, client)


def test_the_authoritys_own_certificate_names_no_node(tmp_path: Path) -> None:
    class End:
        def getpeercert(self) -> dict[str, object]:
            return {"subject": ((("commonName", "onefold authority"),),)}

    with pytest.raises(PeerRefused):
        peer_name(End())  # type: ignore[arg-type]


def test_a_loaded_authority_signs_what_the_created_one_trusts(tmp_path: Path) -> None:
    created = Authority.create(tmp_path / "authority")
    loaded = Authority.load(tmp_path / "authority")
    shake_hands(*context_pair(issued(tmp_path, "anna", created), issued(tmp_path, "bert", loaded)))


def test_a_certificate_names_node_hosts_and_loopback_and_is_backdated(tmp_path: Path) -> None:
    Authority.create(tmp_path / "a").issue("anna", ["10.1.2.3", "::5", "anna.example"], tmp_path / "n", "f1")
    certificate = x509.load_pem_x509_certificate((tmp_path / "n" / "node.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["anna", "anna.example", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address(address) for address in ("10.1.2.3", "::5", "127.0.0.1", "::1")
    ]
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now - datetime.timedelta(days=1)
    assert certificate.not_valid_after_utc > now + datetime.timedelta(days=3650)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    files = issued(tmp_path, "anna")
    for key in (files.key, tmp_path / "authority" / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(path.name for path in files.key.parent.iterdir()) == ["ca.crt", "node.crt", "node.key"]


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    Authority.create(tmp_path)
    with pytest.raises(OperatorError, match="already holds an authority"):
        Authority.create(tmp_path)


def test_a_certificate_can_be_issued_anew_over_the_old_one(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "authority")
    first = issued(tmp_path, "anna", authority).certificate.read_bytes()
    again = issued(tmp_path, "anna", authority)
    assert again.certificate.read_bytes() != first
    shake_hands(*context_pair(again, again))


@pytest.mark.parametrize("name", ["", "a/b", "..", "-a", "a" * 64, "ä", "a b", "a\n"])
def test_a_name_that_cannot_be_a_nodes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSetting):
        Authority.create(tmp_path).sign(name, [], "f")


def test_a_host_that_no_certificate_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="bücher"):
        Authority.create(tmp_path).sign("anna", ["bücher.example"], "f")


def test_missing_and_mismatched_files_are_named(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "authority")
    anna, bert = issued(tmp_path, "anna", authority), issued(tmp_path, "bert", authority)
    with pytest.raises(OperatorError, match="missing"):
        client_context(anna.ca, anna.certificate, tmp_path / "missing")
    with pytest.raises(OperatorError, match=r"bert/node\.key"):
        client_context(anna.ca, anna.certificate, bert.key)
    with pytest.raises(OperatorError, match="`init`"):
        Authority.load(tmp_path / "nowhere")


def test_using_certificates_does_not_load_the_library_that_makes_them(tmp_path: Path) -> None:
    files = issued(tmp_path, "anna")
    script = (
        "import sys; from pathlib import Path; from onefold.edge.tls import client_context\n"
        f"client_context(Path({str(files.ca)!r}), Path({str(files.certificate)!r}), Path({str(files.key)!r}))\n"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
