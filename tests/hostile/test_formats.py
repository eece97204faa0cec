"""HEIC, JPEG XL and AVIF: read where their packages are, and named with the way out where not."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from corpus import drawing, saved

from steerclear.cli import main
from steerclear.errors import ImageError
from steerclear.library import read_frames, read_image

EXTRAS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}


def without(monkeypatch, package):
    """As if a package were not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("kind", EXTRAS)
def test_without_the_extra_a_file_is_a_failure_that_names_the_way_out(kind, tmp_path, monkeypatch, capsys):
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "new").write_bytes(saved(kind))
    (tmp_path / "art" / "old.png").write_bytes(saved("PNG"))
    without(monkeypatch, EXTRAS[kind])
    with pytest.raises(ImageError, match=r"run: pip install 'steerclear\[formats\]'"):
        read_image(tmp_path / "art" / "new")
    assert main(["library", "add", str(tmp_path / "art"), "-l", str(tmp_path / "library")]) == 1
    printed = capsys.readouterr()
    assert "steerclear[formats]" in printed.err
    assert "1 added, 0 already there, 1 failed" in printed.out
    assert main(["check", str(tmp_path / "art" / "new")]) == 2
    assert "steerclear[formats]" in capsys.readouterr().err


def test_an_avif_picture_names_the_way_out_where_pillow_has_no_avif(monkeypatch):
    raw = saved("AVIF")
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(ImageError, match=r"pip install 'pillow>=11\.3'"):
        read_image(raw)


def test_an_animation_in_jpeg_xl_is_refused_since_only_a_part_would_be_seen():
    from corpus import jxl

    with pytest.raises(ImageError, match="animation in JPEG XL, of which only the first frame"):
        read_image(jxl(64, animated=True))


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_every_picture_of_a_file_of_several_is_a_frame(kind):
    second = drawing().rotate(90)
    frames = list(read_frames(saved(kind, save_all=True, append_images=[second], quality=95)))
    assert [frame.info for frame in frames] == [{"frames": 2, "frame": 1}, {"frames": 2, "frame": 2}]
    assert abs(np.asarray(frames[1], float) - np.asarray(second, float)).mean() < 12


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (64, 64), (300, 200), (513, 7), (256, 256), (640, 480), (1200, 1000)]
)
@pytest.mark.parametrize("container", [False, True])
def test_the_size_in_a_jpeg_xl_header_is_read_before_the_pixels_are_made(size, container):
    from steerclear.library.content import jxl_header

    stream = io.BytesIO()
    drawing().resize(size).save(stream, "JXL", use_container=container)
    header = jxl_header(stream.getvalue())
    assert ((header.width, header.height), header.animated) == (size, False)


def test_a_folder_says_at_the_end_what_was_no_picture(tmp_path, capsys):
    art = tmp_path / "art"
    art.mkdir()
    (art / "fox").write_bytes(saved("JPEG"))
    for name in ("a.md", "b.md", ".hidden"):
        (art / name).write_text("a fox")
    (art / "a.pdf").write_bytes(b"%PDF-1.7")
    (art / "a.zip").write_bytes(b"PK\3\4")
    (art / "b.zip").write_bytes(b"PK\3\4")
    assert main(["library", "add", str(art), "-l", str(tmp_path / "library")]) == 0
    out = capsys.readouterr().out
    assert "1 added, 0 already there, 0 failed" in out
    assert "skipped, no pictures: 2 archives, 2 text, 1 PDF, 1 hidden file" in out
