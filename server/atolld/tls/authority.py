"""Our own certificate authority, for a domain that nobody else vouches for.

The root may sign for its one domain and nothing else (name constraints, RFC 5280 §4.2.1.10): whoever trusts
it gives it no power over any other name, even if its key is stolen. Root and leaf lie in one file each, key
and certificate together, so that a crash or a second process never leaves a pair that does not match.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from atolld.builds.files import replace_text
from atolld.model.errors import HostError
from atolld.tls.names import certificate_names

ROOT_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
_SKEW = timedelta(days=1)
"""How far a client's clock may lag behind ours."""


@dataclass(frozen=True, slots=True)
class Authority:
    """``directory`` is the domain's own: another domain has another root."""

    directory: Path
    name: str

    @property
    def root_file(self) -> Path:
        """The root's certificate, PEM, for clients."""
        return self.directory / "root.pem"

    @property
    def leaf_file(self) -> Path:
        """Certificate and key for the server, PEM, mode 0600."""
        return self.directory / "server.pem"

    @property
    def _secret_file(self) -> Path:
        return self.directory / "authority.pem"

    def ensure(self, now: datetime | None = None) -> bool:
        """Makes or renews what is missing or about to end; whether the leaf is a new one.

        Raises :class:`HostError` when a file is there that cannot be read, :class:`InvalidRequest` for a name
        that no certificate can hold.
        """
        now = now or datetime.now(UTC)
        names = certificate_names(self.name)
        self.directory.mkdir(parents=True, exist_ok=True)
        root, key = self._ensure_root(now)
        if not self.root_file.exists() or _read_certificate(self.root_file) != root:
            replace_text(self.root_file, _certificate_text(root))
        if self._leaf_is_good(root, now):
            return False
        leaf, leaf_key = _issue_leaf(names, root, key, now)
        with _private_file(self.leaf_file, _certificate_text(leaf) + _key_text(leaf_key)) as fresh:
            fresh.replace(self.leaf_file)
        return True

    def _ensure_root(self, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if self._secret_file.exists():
            root, key = _read_pair(self._secret_file)
            if root.not_valid_after_utc - now > LEAF_LIFE:
                return root, key
            self._secret_file.unlink(missing_ok=True)
        _create_exclusively(self._secret_file, "".join(_root_text(self.name, now)))
        return _read_pair(self._secret_file)

    def _leaf_is_good(self, root: x509.Certificate, now: datetime) -> bool:
        if not self.leaf_file.exists():
            return False
        leaf, _ = _read_pair(self.leaf_file)
        try:
            leaf.verify_directly_issued_by(root)
        except Exception:  # cryptography raises three kinds; all mean: of another root
            return False
        return leaf.not_valid_after_utc - now > RENEW_BEFORE


def _root_text(name: str, now: datetime) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Atoll, {name}"[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    no_address = [x509.IPAddress(ip_network(every)) for every in ("0.0.0.0/0", "::/0")]
    certificate = (
        _builder(subject, subject, key.public_key(), now, ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(name)], no_address), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return _certificate_text(certificate), _key_text(key)


def _issue_leaf(
    names: tuple[str, ...], root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Atoll")])
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, root.subject, key.public_key(), now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate_text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_pair(path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _read_certificate(path)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unreadable(path, "its key is none of ours")
    return certificate, key


def _unreadable(path: Path, why: object) -> HostError:
    return HostError(
        f"{path} cannot be used ({why}): remove it, and a new one is made; clients that trusted the old root "
        "must then be told again (`./atoll trust`)"
    )


def _create_exclusively(path: Path, text: str) -> None:
    """The whole file, unless another process was first: then that one's stays."""
    with _private_file(path, text) as fresh, contextlib.suppress(FileExistsError):
        os.link(fresh, path)


@contextlib.contextmanager
def _private_file(path: Path, text: str) -> Generator[Path]:
    """``text`` on disk beside ``path``, mode 0600 from its first byte on; gone afterwards."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)
