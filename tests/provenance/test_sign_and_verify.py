"""`steerclear generate --sign` and `steerclear verify`, one after the other, on the model that ships."""

from __future__ import annotations

import json

import pytest
from certificates import certificates
from PIL import Image

from steerclear.cli import main
from steerclear.output import read_png

ORDINARY = ("generate", "a cat, noto style", "--steps", "2", "--seeds", "7")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def verify(capsys):
    def verified(*words):
        capsys.readouterr()
        code = main(["verify", *map(str, words)])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return verified


def test_a_signed_picture_has_the_plain_ones_pixels_and_is_verified_until_it_is_changed(
    files, tmp_path, verify
):
    assert main([*ORDINARY, "--out", str(tmp_path / "plain")]) == 0
    assert (
        main([*ORDINARY, "--out", str(tmp_path / "signed"), "--sign", str(files.chain), str(files.key)]) == 0
    )
    plain, signed = tmp_path / "plain" / "0000-7.png", tmp_path / "signed" / "0000-7.png"
    assert read_png(plain)[0].tobytes() == read_png(signed)[0].tobytes()
    assert main(["replay", str(signed)]) == 0

    code, (line,), err = verify(signed)
    assert (code, line["state"], line["signer"], err) == (0, "Valid", "a signer, Tests", "")
    assert line["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    code, (line,), _ = verify(signed, "--trust", files.root)
    assert (code, line["state"]) == (0, "Trusted")
    code, (line,), _ = verify(plain)
    assert (code, line["state"]) == (3, None)
    assert line["digital_source_type"].endswith("/trainedAlgorithmicMedia")

    Image.open(signed).save(tmp_path / "edited.png")
    signed.write_bytes(signed.read_bytes().replace(b"noto", b"onto", 1))
    code, lines, _ = verify(signed, tmp_path / "edited.png")
    assert (code, [line["state"] for line in lines]) == (3, ["Invalid", None])


def test_without_trust_in_its_root_a_valid_signature_is_not_enough(files, tmp_path, verify):
    from steerclear.output import save_png
    from steerclear.provenance import Credentials

    save_png(
        tmp_path / "a.png",
        image=Image.new("RGB", (8, 8)),
        recipe={},
        credentials=Credentials.load(files.chain, files.key),
    )
    code, (line,), _ = verify(tmp_path / "a.png", "--trust", certificates(tmp_path / "other").root)
    assert code == 3
    assert line["state"] != "Trusted"


def test_a_certificate_that_cannot_sign_ends_it_before_a_picture_is_made(files, tmp_path, capsys):
    code = main([*ORDINARY, "--out", str(tmp_path / "out"), "--sign", str(files.key), str(files.key)])
    assert code == 2
    assert "key.pem" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unreadable_files_are_named_and_the_others_still_verified(files, tmp_path, verify):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    code, lines, err = verify(tmp_path / "b.png", tmp_path / "a.png", tmp_path / "absent.png")
    assert (code, [line["file"] for line in lines]) == (2, [str(tmp_path / "a.png")])
    assert "b.png" in err
    assert "absent.png" in err
    code, lines, err = verify(tmp_path / "a.png", "--trust", tmp_path / "b.png")
    assert (code, lines) == (2, [])
    assert "--trust" in err
    assert "holds no certificate" in err
