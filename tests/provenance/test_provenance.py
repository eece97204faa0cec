"""What a file says of where its picture comes from, and that nobody can change it unseen."""

from __future__ import annotations

import io
import socket
import sys
from pathlib import Path

import pytest
from certificates import certificates
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from steerclear.errors import ConfigError, ImageError, InputError
from steerclear.output import read_png, save_png
from steerclear.provenance import EDITED, GENERATED, Credentials, read, read_bytes, xmp

NOISE = Image.effect_noise((64, 48), 60).convert("RGB")
RECIPE = {"prompt": "a fox", "seed": 3}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def credentials(files):
    return Credentials.load(files.chain, files.key)


def encoded(format):
    buffer = io.BytesIO()
    NOISE.save(buffer, format, **({} if format == "PNG" else {"xmp": xmp()}))
    return buffer.getvalue()


def test_every_generated_png_says_that_a_model_made_it_without_a_certificate(tmp_path):
    save_png(tmp_path / "a.png", NOISE, RECIPE)
    provenance = read(tmp_path / "a.png")
    assert (provenance.state, provenance.source_type) == (None, GENERATED)


def test_a_sheet_or_another_picture_without_a_recipe_says_nothing(tmp_path):
    save_png(tmp_path / "a.png", NOISE)
    assert read(tmp_path / "a.png").source_type is None


def test_signing_leaves_pixels_and_recipe_as_they_are(tmp_path, credentials):
    save_png(tmp_path / "plain.png", NOISE, RECIPE)
    save_png(tmp_path / "signed.png", image=NOISE, recipe=RECIPE, credentials=credentials)
    image, recipe = read_png(tmp_path / "signed.png")
    assert image.tobytes() == read_png(tmp_path / "plain.png")[0].tobytes() == NOISE.tobytes()
    assert recipe == RECIPE
    assert (tmp_path / "signed.png").read_bytes() != (tmp_path / "plain.png").read_bytes()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("source_type", [GENERATED, EDITED])
def test_a_signed_file_names_signer_tool_action_and_source(format, source_type, credentials, files):
    signed = credentials.sign(encoded(format), format, source_type)
    provenance = read_bytes(signed, format)
    assert provenance.state == "Valid"
    assert provenance.signer == "a signer, Tests"
    assert provenance.tool is not None
    assert provenance.tool.startswith("steerclear ")
    assert (provenance.actions, provenance.source_type) == (("c2pa.created",), source_type)
    assert read_bytes(signed, format, files.root.read_bytes()).state == "Trusted"
    pixels = Image.open(io.BytesIO(signed)).convert("RGB").tobytes()
    assert pixels == Image.open(io.BytesIO(encoded(format))).convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["ES256", "ES384", "ES512", "PS256", "Ed25519"])
def test_each_kind_of_key_signs(kind, tmp_path):
    files = certificates(tmp_path, kind)
    credentials = Credentials.load(files.chain, files.key)
    assert credentials.algorithm == kind
    assert read_bytes(credentials.sign(encoded("PNG"), "PNG"), "PNG").state == "Valid"


def test_a_signer_of_another_root_is_valid_but_not_trusted(credentials, tmp_path):
    other = certificates(tmp_path)
    signed = credentials.sign(encoded("PNG"), "PNG")
    provenance = read_bytes(signed, "PNG", other.root.read_bytes())
    assert provenance.state != "Trusted"
    assert "signingCredential.untrusted" in provenance.problems


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_is_never_verified_unless_it_lies_in_what_fills_the_credentials_up(
    place, bit, credentials
):
    signed = credentials.sign(encoded("PNG"), "PNG")
    changed = bytearray(signed)
    changed[int(place * len(signed))] ^= 1 << bit
    provenance = read_bytes(bytes(changed), "PNG")
    if provenance.state in ("Valid", "Trusted"):
        assert provenance == read_bytes(signed, "PNG")
        credentials_end = signed.index(b"caBX") + int.from_bytes(signed[33:37], "big") + 8
        assert signed.index(b"caBX") < int(place * len(signed)) < credentials_end


def test_cut_off_and_swapped_pixels_are_never_verified(credentials, tmp_path):
    signed = credentials.sign(encoded("PNG"), "PNG")
    assert read_bytes(signed[: len(signed) // 2], "PNG").state not in ("Valid", "Trusted")
    (tmp_path / "a.png").write_bytes(signed)
    Image.open(tmp_path / "a.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.png")
    assert read(tmp_path / "b.png").state not in ("Valid", "Trusted")


def test_nothing_is_fetched_to_sign_or_to_verify(credentials, files, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "socket", refuse)
    signed = credentials.sign(encoded("PNG"), "PNG")
    assert read_bytes(signed, "PNG", files.root.read_bytes()).state == "Trusted"


def spoilt(files, case, folder):
    """The chain and the key of a case that must be refused."""
    chain, key, root = files
    match case:
        case "no file":
            return folder / "absent.pem", key
        case "no PEM":
            (folder / "noise").write_bytes(b"\x00\xff noise")
            return folder / "noise", key
        case "a key as the chain":
            return key, key
        case "a chain as the key":
            return chain, chain
        case "another's key":
            return chain, certificates(folder / "other").key
        case "ended":
            return certificates(folder, days=-1)[:2]
        case "for servers":
            return certificates(folder, usage=ExtendedKeyUsageOID.SERVER_AUTH)[:2]
        case "a passphrase":
            return certificates(folder, password=b"secret")[:2]
        case "another curve":
            return certificates(folder, "secp256k1")[:2]
        case "another kind of key":
            return certificates(folder, "dsa")[:2]
        case "signs itself":
            return root, key
    raise AssertionError(case)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("no file", "cannot read the certificate .*absent.pem"),
        ("no PEM", "noise"),
        ("a key as the chain", "key.pem"),
        ("a chain as the key", "chain.pem"),
        ("another's key", "not that of the certificate"),
        ("ended", "valid from .* not now"),
        ("for servers", "emailProtection or documentSigning"),
        ("a passphrase", "without a passphrase"),
        ("another curve", "use EC, RSA or Ed25519"),
        ("another kind of key", "use EC, RSA or Ed25519"),
        ("signs itself", "not that of the certificate"),
    ],
)
def test_what_cannot_sign_is_refused_before_anything_is_made(case, says, files, tmp_path):
    with pytest.raises(ConfigError, match=says):
        Credentials.load(*spoilt(files, case, tmp_path))


@pytest.mark.parametrize("content", [b"", b"no picture", b"GIF89a"])
def test_what_is_no_picture_is_named(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png.*give a PNG, a JPEG or a WebP"):
        read(tmp_path / "a.png")


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"absent\.png.*No such file"):
        read(Path("absent.png"))


def test_without_the_extra_it_says_what_to_install(monkeypatch, files):
    for name in ("c2pa", "cryptography"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("steerclear.provenance.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'steerclear\[provenance\]'"):
        Credentials.load(files.chain, files.key)
    with pytest.raises(ConfigError, match=r"pip install 'steerclear\[provenance\]'"):
        read_bytes(encoded("PNG"), "PNG")
