"""The cluster's own certificate authority, and mutual TLS 1.3 from its certificates.

`init` makes an `Authority`; it signs one certificate per node, used by that node both as server and as client, for
etcd and for our own connections. Who a peer is, is the name in its certificate (`peer_name`): addresses may change.
etcd however checks addresses: that of the member dialled, and that of a peer that dials in. So a certificate also
names every address of its node, and loopback, where a node finds its own member.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from onefold.atomic import replace_file
from onefold.errors import BadSetting, OperatorError, PeerRefused

if TYPE_CHECKING:  # `cryptography` costs some 15 MB: only those who issue certificates load it
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

CA = "ca.crt"
CA_KEY = "ca.key"
CERTIFICATE = "node.crt"
KEY = "node.key"

BACKDATED_DAYS = 2
"""Certificates are valid from that long ago, against clocks that differ."""
VALID_DAYS = 20 * 365
"""Of an authority, and of what is carried to its machine by hand."""
RENEWED_DAYS = 90
"""Of certificates that nodes renew by themselves, once a third of that is left."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class TlsFiles:
    """Where a node's certificates are."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def within(cls, directory: Path) -> TlsFiles:
        """As `Identity.write` leaves them in `directory`."""
        return cls(directory / CA, directory / CERTIFICATE, directory / KEY)


@dataclass(frozen=True)
class Identity:
    """What one node needs to prove who it is, each as PEM. `key` is secret."""

    ca: bytes
    certificate: bytes
    key: bytes

    def write(self, directory: Path) -> None:
        """Write `ca.crt`, `node.key` (0600) and, last, `node.crt` into `directory`, each atomically."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(directory / CA, self.ca, 0o644)
        replace_file(directory / KEY, self.key, 0o600)
        replace_file(directory / CERTIFICATE, self.certificate, 0o644)


class Request(NamedTuple):
    """A key that never leaves its machine, and what an authority needs to certify it, both PEM."""

    key: bytes
    request: bytes


class Certified(NamedTuple):
    """A certificate (PEM), its serial number (hex), and the SHA-256 (hex) of its public key."""

    certificate: bytes
    serial: str
    key: str


class Authority:
    """The key that says who belongs to the cluster."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, directory: Path) -> Authority:
        """A new authority, kept in `directory` as `ca.key` (0600) and `ca.crt`.

        Raises `OperatorError` if there is one already: replacing it would lock every node out.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        if (directory / CA_KEY).exists():
            raise OperatorError(f"{directory} already holds an authority", "use it, or choose another directory")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign("onefold authority", "", (), key.public_key(), key, None, VALID_DAYS)
        authority = cls(certificate, key)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(directory / CA, _pem(certificate), 0o644)
        replace_file(directory / CA_KEY, _key_pem(key), 0o600)
        return authority

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """The authority kept in `directory`. Raises `OperatorError` when it is not there or not readable."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            certificate = x509.load_pem_x509_certificate((directory / CA).read_bytes())
            key = serialization.load_pem_private_key((directory / CA_KEY).read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise OperatorError(
                f"cannot read the cluster's authority in {directory} ({error})", "run this where `init` was run"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OperatorError(f"{directory / CA_KEY} is no key of ours", "restore it from a backup")
        return cls(certificate, key)

    def sign(self, name: str, hosts: list[str], folder_id: str) -> Identity:
        """A new key and certificate for node `name`, reachable at `hosts` (addresses or DNS names).

        Raises `BadSetting` for a name or host that no certificate can hold.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certify(name, hosts, folder_id, key.public_key(), VALID_DAYS)
        return Identity(_pem(self._certificate), _pem(certificate), _key_pem(key))

    def issue(self, name: str, hosts: list[str], directory: Path, folder_id: str) -> None:
        """`sign`, and write what came out into `directory`."""
        self.sign(name, hosts, folder_id).write(directory)

    def certify(
        self, request: bytes, name: str, hosts: list[str], folder_id: str, days: int = RENEWED_DAYS
    ) -> Certified:
        """A certificate for the key of `request` (PEM), of which nothing else is believed. Raises `BadSetting`."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            asked = x509.load_pem_x509_csr(request)
            key = asked.public_key()
            proven = asked.is_signature_valid
        except ValueError as error:
            raise BadSetting(f"{name} sent no request for a certificate ({error})", "update Onefold there") from error
        if not proven or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadSetting(f"{name} asks for a certificate of a key that is not ours to use", "update Onefold there")
        certificate = self._certify(name, hosts, folder_id, key, days)
        return Certified(_pem(certificate), f"{certificate.serial_number:x}", _key_digest(key))

    def revocations(self, serials: Iterable[str]) -> bytes:
        """The list of certificates that are not honoured any more, as etcd reads it, by their serial numbers (hex)."""
        import datetime

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - datetime.timedelta(days=BACKDATED_DAYS))
            .next_update(now + datetime.timedelta(days=VALID_DAYS))
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now)
            builder = builder.add_revoked_certificate(revoked.build())
        return _pem(builder.sign(self._key, hashes.SHA256()))

    def _certify(
        self, name: str, hosts: list[str], folder_id: str, key: EllipticCurvePublicKey, days: int
    ) -> x509.Certificate:
        if not _NAME.fullmatch(name):
            raise BadSetting(
                f"{name!r} cannot be the name of a node", "use up to 63 letters, digits, dashes, dots and underscores"
            )
        names = (name, *hosts, *LOOPBACK)
        return _sign(name, folder_id, names, key, self._key, self._certificate, days)


def new_request(key: bytes | None = None) -> Request:
    """A request for a certificate of `key` (PEM), or of a new one. Raises `ValueError` when that is no key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1()) if key is None else serialization.load_pem_private_key(key, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("it is not the kind of key that nodes have")
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(private, hashes.SHA256())
    return Request(_key_pem(private), _pem(request))


def described(certificate: bytes) -> Certified:
    """What there is to know of a certificate (PEM). Raises `ValueError`."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    read = x509.load_pem_x509_certificate(certificate)
    key = read.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("it is not of the kind that nodes have")
    return Certified(certificate, f"{read.serial_number:x}", _key_digest(key))


def is_due(certificate: bytes) -> bool:
    """Whether a third or less is left of the time of a certificate (PEM). Raises `ValueError`."""
    import datetime

    from cryptography import x509

    read = x509.load_pem_x509_certificate(certificate)
    whole = read.not_valid_after_utc - read.not_valid_before_utc
    return (read.not_valid_after_utc - datetime.datetime.now(datetime.UTC)) * 3 <= whole


def fingerprint(certificate: str) -> bytes:
    """The SHA-256 of a certificate (PEM). Raises `ValueError`."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).digest()


def server_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """For a listener: TLS 1.3 only, and only clients with a certificate of our authority.

    Raises `OperatorError` when a file is missing or is not what it should be.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, ca, certificate, key)
    context.num_tickets = 0  # sessions are long and never resumed
    return context


def client_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """For dialling a peer: TLS 1.3 only. The host name is not checked: ask `peer_name` who answered.

    Raises `OperatorError` when a file is missing or is not what it should be.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, ca, certificate, key)


_contexts: weakref.WeakKeyDictionary[ssl.SSLContext, tuple[Path, Path]] = weakref.WeakKeyDictionary()
"""Those that are to show another certificate once it is renewed, and where it lies."""


def show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Let `context` show this certificate, and whatever takes its place there. Raises `OSError` (`ssl.SSLError`)."""
    context.load_cert_chain(certificate, key)
    _contexts[context] = certificate, key


def renewed(certificate: Path) -> None:
    """Another certificate lies there: new connections show that. Raises `OSError` (`ssl.SSLError`)."""
    for context, (path, key) in list(_contexts.items()):
        if path == certificate:
            context.load_cert_chain(path, key)


def peer_serial(tls: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The serial number (hex) of the certificate at the other end."""
    return f"{int(cast(str, (tls.getpeercert() or {}).get('serialNumber', '0')), 16):x}"


def peer_name(tls: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The name of the node at the other end, as our authority certified it. Raises `PeerRefused` if it has none."""
    certificate = tls.getpeercert() or {}
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    names = [value for part in subject for key, value in part if key == "commonName"]
    if len(names) != 1 or ("DNS", names[0]) not in certificate.get("subjectAltName", ()):
        raise PeerRefused("a peer's certificate does not name a node", "issue it anew")
    return names[0]


def check_own(ca: Path, certificate: Path, key: Path, name: str) -> None:
    """Raises `OperatorError` unless peers with the same `ca` will take the certificate for one of the node `name`.

    Asked of TLS itself: we greet ourselves, in memory.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(ca, certificate, key).wrap_bio(to_server, to_client, server_side=True)
    client = client_context(ca, certificate, key).wrap_bio(to_client, to_server)
    try:
        for side in (client, server, client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        certified = peer_name(client)
    except ssl.SSLCertVerificationError as error:
        raise OperatorError(
            f"the certificate {certificate} does not hold by the authority {ca} ({error.verify_message})",
            "have that authority issue it anew, or put the right `ca.crt` there",
        ) from error
    except (ssl.SSLError, ValueError, PeerRefused) as error:
        raise OperatorError(f"the certificate {certificate} cannot be used ({error})", "issue it anew") from error
    if certified != name:
        raise OperatorError(f"the certificate {certificate} is that of {certified}, not of {name}", "issue its own")


def _context(protocol: int, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
        show(context, certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise OperatorError(
            f"cannot use the certificates {ca}, {certificate}, {key} ({error})", "issue them anew, or restore them"
        ) from error
    return context


def _sign(
    name: str,
    folder_id: str,
    names: tuple[str, ...],
    key: EllipticCurvePublicKey,
    issuer_key: EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    days: int,
) -> x509.Certificate:
    """A certificate for `key`; the authority's own when `issuer` is None."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if folder_id:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, folder_id))
    subject = x509.Name(attributes)
    authority = issuer is None
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=BACKDATED_DAYS))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False).add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(names)]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    import ipaddress

    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise BadSetting(f"{host!r} is neither an address nor a DNS name", "give one of them") from error


def _pem(
    value: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList,
) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return value.public_bytes(Encoding.PEM)


def _key_digest(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
