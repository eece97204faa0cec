"""Certificates for tests: a root of its own, and a signer that it vouches for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

KEYS = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "dsa": lambda: dsa.generate_private_key(2048),
}


class Files(NamedTuple):
    """PEM files: the signer's chain, its key, and the root that a reader may trust."""

    chain: Path
    key: Path
    root: Path


def certificates(
    folder: Path,
    kind: str = "ES256",
    *,
    days: int = 30,
    usage: ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    password: bytes | None = None,
) -> Files:
    """Make a root and a signer, whose certificate ends in so many days, and write their files."""
    root_key, key = KEYS["ES256"](), KEYS[kind]()
    root = _certificate(root_key, "a root", "a root", signed_by=root_key, days=60, authority=True, usage=None)
    chain = _certificate(
        key, "a signer", "a root", signed_by=root_key, days=days, authority=False, usage=usage
    )
    files = Files(folder / "chain.pem", folder / "key.pem", folder / "root.pem")
    folder.mkdir(parents=True, exist_ok=True)
    files.chain.write_bytes(chain + root)
    files.root.write_bytes(root)
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return files


def _certificate(key, subject, issuer, *, signed_by, days, authority, usage) -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False
        )
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(signed_by, hashes.SHA256()).public_bytes(Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"),
        ]
    )
