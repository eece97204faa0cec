"""Where a picture comes from, said in its file: IPTC's digital source type, and signed C2PA credentials.

The pixels stay as they are; the file does not. No claim of compliance with any law comes with it.
Sources: IPTC Photo Metadata Standard 2023.2, "Digital Source Type"; C2PA Technical Specification 2.2.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steerclear._version import __version__
from steerclear.errors import ConfigError, ImageError, InputError

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = SOURCE_TYPES + "trainedAlgorithmicMedia"
EDITED = SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"  # made from a picture that somebody gave
TOOL = f"steerclear {__version__}"
XMP_KEYWORD = "XML:com.adobe.xmp"  # of the PNG text chunk that holds XMP
BEGINNINGS = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
# nothing is fetched: no manifest from elsewhere, no answer about a revoked certificate
OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
# the picture in the file needs no small copy of itself beside it, which would be the larger part
SIGNING = {**OFFLINE, "builder": {"thumbnail": {"enabled": False}}}


def xmp(source_type: str = GENERATED) -> bytes:
    """An XMP packet that says by what the picture was made.

    Args:
        source_type: IPTC's term, as an address.
    """
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'xmp:CreatorTool="{TOOL}" Iptc4xmpExt:DigitalSourceType="{source_type}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


@dataclass(frozen=True)
class Credentials:
    """Signs pictures with content credentials.

    Attributes:
        certificate: the chain in PEM, the signer's own certificate first.
        key: its private key in PEM, without a passphrase.
        algorithm: C2PA's name of the signature, by the kind of key, such as "ES256".
    """

    certificate: bytes
    key: bytes
    algorithm: str

    @classmethod
    def load(cls, certificate: str | Path, key: str | Path) -> Credentials:
        """Read a certificate chain and its key, and sign a picture once to see that they are accepted.

        Args:
            certificate: a PEM file, the signer's own certificate first; it is for
                emailProtection or documentSigning, and does not sign itself.
            key: a PEM file: an EC (P-256, P-384, P-521), RSA or Ed25519 key without a passphrase.

        Raises:
            ConfigError: for what cannot be read or used, a key that is not the certificate's, and a
                certificate that is not valid now.
        """
        _check_installed()
        from cryptography import x509

        chain, private = _read(certificate, "certificate"), _read(key, "key")
        try:
            signer = x509.load_pem_x509_certificates(chain)[0]
        except ValueError as error:
            raise ConfigError(
                f"the certificate {str(certificate)!r} cannot be used: {error}; give a chain in PEM"
            ) from error
        algorithm = _algorithm(private, signer, str(key))
        now = datetime.now(UTC)
        if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
            raise ConfigError(
                f"the certificate {str(certificate)!r} is valid from {signer.not_valid_before_utc:%Y-%m-%d} "
                f"to {signer.not_valid_after_utc:%Y-%m-%d}, and not now"
            )
        credentials = cls(chain, private, algorithm)
        try:
            state = read_bytes(credentials.sign(_tiny_png(), "PNG"), "PNG").state
        except Exception as error:
            raise ConfigError(
                f"nothing can be signed with {str(certificate)!r}: {error}; C2PA needs a certificate that "
                "somebody else has signed, for emailProtection or documentSigning"
            ) from error
        if state not in ("Valid", "Trusted"):
            raise ConfigError(
                f"what is signed with {str(certificate)!r} is {state or 'without credentials'}; C2PA needs a "
                "certificate that somebody else has signed, for emailProtection or documentSigning"
            )
        return credentials

    def sign(self, encoded: bytes, format: str, source_type: str = GENERATED) -> bytes:
        """The file with content credentials: action c2pa.created, and the digital source type.

        Args:
            encoded: a whole file.
            format: "PNG", "JPEG" or "WEBP".
            source_type: IPTC's term, as an address.
        """
        from c2pa import Builder, C2paSignerInfo, Context, Settings, Signer

        manifest = {
            "claim_generator_info": [{"name": "steerclear", "version": __version__}],
            "format": FORMATS[format],
            "assertions": [
                {
                    "label": "c2pa.actions.v2",
                    "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": source_type}]},
                }
            ],
        }
        info = C2paSignerInfo(self.algorithm.lower().encode(), self.certificate, self.key, None)
        signed = io.BytesIO()
        with (
            Signer.from_info(info) as signer,
            Settings.from_dict(SIGNING) as settings,
            Context(settings) as context,
            Builder(manifest, context) as builder,
        ):
            builder.sign(signer, FORMATS[format], io.BytesIO(encoded), signed)
        return signed.getvalue()


@dataclass(frozen=True)
class Provenance:
    """What a file says of where its picture comes from.

    Attributes:
        state: "Trusted" for credentials that fit the file and whose signer is vouched for by a given anchor,
            "Valid" for such whose signer is not, "Invalid" for a file or credentials that were changed, None
            without credentials.
        signer: the common name and the issuer in the certificate; None without credentials.
        tool: the program that made the claim; None where none is named.
        actions: what was done, such as "c2pa.created".
        source_type: IPTC's term as an address, of the credentials, else of the XMP; None where neither says
            it.
        problems: codes of what does not hold, such as "assertion.dataHash.mismatch".
    """

    state: str | None
    signer: str | None
    tool: str | None
    actions: tuple[str, ...]
    source_type: str | None
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "state": self.state,
            "signer": self.signer,
            "tool": self.tool,
            "actions": list(self.actions),
            "digital_source_type": self.source_type,
            "problems": list(self.problems),
        }


def read(path: Path, anchors: bytes | None = None) -> Provenance:
    """What a PNG, JPEG or WebP file says of itself.

    Args:
        path: the file.
        anchors: certificates in PEM that the reader trusts; with None no signer is vouched for.

    Raises:
        ImageError: if it is no such picture.
        InputError: if it cannot be read.
        ConfigError: without the extra `provenance`.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    format = next((name for name, begins in BEGINNINGS.items() if begins.match(encoded)), None)
    if format is None:
        raise ImageError(
            f"{str(path)!r} is no picture that can carry credentials: give a PNG, a JPEG or a WebP"
        )
    return read_bytes(encoded, format, anchors)


def read_bytes(encoded: bytes, format: str, anchors: bytes | None = None) -> Provenance:
    """As `read`, of a whole file in memory of the given format."""
    _check_installed()
    from c2pa import C2paError, Context, Reader, Settings

    asked: dict[str, Any] = dict(OFFLINE)
    if anchors is not None:
        asked = {
            "verify": {**OFFLINE["verify"], "verify_trust": True},
            "trust": {"trust_anchors": anchors.decode()},
        }
    said = _source_type_of_xmp(encoded, format)
    try:
        with Settings.from_dict(asked) as settings, Context(settings) as context:
            reader = Reader.try_create(FORMATS[format], io.BytesIO(encoded), context=context)
            if reader is None:
                return Provenance(None, signer=None, tool=None, actions=(), source_type=said, problems=())
            with reader:
                store = json.loads(reader.json())
    except (C2paError, ValueError) as error:
        return Provenance(
            "Invalid", signer=None, tool=None, actions=(), source_type=said, problems=(str(error)[:200],)
        )
    return _from_store(store, said)


def _from_store(store: Mapping[str, Any], said: str | None) -> Provenance:
    """What a manifest store in the JSON of the C2PA library says."""
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    signature = manifest.get("signature_info") or {}
    names = [signature[key] for key in ("common_name", "issuer") if signature.get(key)]
    tools = manifest.get("claim_generator_info") or [{}]
    tool = " ".join(str(tools[0][key]) for key in ("name", "version") if tools[0].get(key))
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", ())
    ]
    types = [action["digitalSourceType"] for action in actions if action.get("digitalSourceType")]
    failures = (store.get("validation_results") or {}).get("activeManifest", {}).get("failure", ())
    return Provenance(
        state=store.get("validation_state"),
        signer=", ".join(names) or None,
        tool=tool or None,
        actions=tuple(str(action.get("action")) for action in actions),
        source_type=next(iter(types), said),
        problems=tuple(str(failure.get("code")) for failure in failures),
    )


def _source_type_of_xmp(encoded: bytes, format: str) -> str | None:
    """The digital source type in a file's XMP; None where there is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=(format,)) as opened:
            packet = opened.info.get("xmp") or opened.info.get(XMP_KEYWORD) or b""
    except Exception:  # what cannot be opened says nothing
        return None
    text = packet.decode(errors="replace") if isinstance(packet, bytes) else str(packet)
    match = re.search(r"DigitalSourceType(?:=[\"']|>)\s*([^\"'<\s]{1,200})", text)
    return match.group(1) if match else None


def _read(file: str | Path, what: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {str(file)!r}: {error.strerror or error}") from error


def _algorithm(private: bytes, certificate: Any, name: str) -> str:
    """C2PA's name of the signature that a key makes. Raises ConfigError for a key that does not fit."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        key = serialization.load_pem_private_key(private, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the key {name!r} cannot be used: {error}; give one in PEM without a passphrase"
        ) from error
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ConfigError(f"the key {name!r} is not that of the certificate")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
        if key.curve.name in curves:
            return curves[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey):
        return "PS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "Ed25519"
    raise ConfigError(f"the key {name!r} is of a kind that C2PA does not know; use EC, RSA or Ed25519")


def _check_installed() -> None:
    """Raises ConfigError without the extra `provenance`."""
    missing = [name for name in ("c2pa", "cryptography") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"content credentials need {missing[0]}; run: pip install 'steerclear[provenance]'")


def _tiny_png() -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.new("RGB", (8, 8)).save(encoded, "PNG")
    return encoded.getvalue()
