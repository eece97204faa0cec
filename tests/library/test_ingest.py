"""Adding takes what people have, and tells what became of each picture."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from library_doubles import TinyEncoder, picture, write_pictures
from PIL import Image, ImageDraw
from torch import Tensor

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import EncoderError, InputError
from steerclear.library import Library, Progress, Source, add, verify
from steerclear.library.images import phash
from steerclear.library.pictures import original


@pytest.fixture
def empty(tmp_path, encoder) -> Library:
    return Library.create(tmp_path / "library", [encoder])


def test_a_folder_is_searched_with_all_below_it_but_not_what_is_hidden(empty, encoder, tmp_path):
    write_pictures(tmp_path / "art", [1])
    write_pictures(tmp_path / "art" / "deep" / "er", [2])
    write_pictures(tmp_path / "art" / ".cache", [3])
    (tmp_path / "art" / "readme.md").write_text("no picture")
    assert sorted(add(empty, tmp_path / "art", [encoder]).added) == ["picture-1", "picture-2"]


def test_a_glob_adds_what_it_matches(empty, encoder, tmp_path):
    write_pictures(tmp_path / "art", range(12))
    assert len(add(empty, str(tmp_path / "a*" / "picture-1*.png"), [encoder]).added) == 3


def test_exact_duplicates_are_skipped_whatever_their_name(empty, encoder, pictures, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(pictures[2].read_bytes())
    report = add(empty, [*pictures, copy], [encoder])
    assert (len(report.added), report.skipped_duplicates) == (5, [str(copy)])
    again = add(empty, pictures, [encoder])
    assert (again.added, again.skipped_duplicates) == ([], [str(p) for p in pictures])


def test_pictures_with_the_same_name_get_different_ids(empty, encoder, tmp_path):
    first, second = write_pictures(tmp_path / "a", [1]), write_pictures(tmp_path / "b", [2])
    second[0].rename(tmp_path / "b" / "picture-1.png")
    first_id, second_id = add(empty, [tmp_path / "a", tmp_path / "b"], [encoder]).added
    assert first_id == "picture-1"
    assert second_id == f"picture-1-{empty.get(second_id).sha256[:8]}"
    assert first


def test_one_bad_file_never_stops_the_rest(empty, encoder, tmp_path):
    art = tmp_path / "art"
    write_pictures(art, range(3))
    (art / "empty.png").write_bytes(b"")
    (art / "half.png").write_bytes((art / "picture-1.png").read_bytes()[:99])
    report = add(empty, art, [encoder], batch=2)
    assert len(report.added) == 3
    reasons = {Path(path).name: reason for path, reason in report.failed}
    assert set(reasons) == {"empty.png", "half.png"}
    assert "empty" in reasons["empty.png"]


def test_blank_pictures_are_refused_with_the_reason_and_the_others_go_in(empty, encoder, tmp_path):
    (good,) = write_pictures(tmp_path / "art", [1])
    for colour in ("white", "black", "teal"):
        Image.new("RGB", (40, 40), colour).save(tmp_path / "art" / f"{colour}.png")
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "art" / "transparent.png")
    report = add(empty, tmp_path / "art", [encoder])
    assert report.added == [good.stem]
    reasons = {Path(path).stem: reason for path, reason in report.failed}
    assert set(reasons) == {"white", "black", "teal", "transparent"}
    assert all("blank" in reason for reason in reasons.values())


def test_a_white_drawing_on_transparency_goes_in_as_the_drawing(empty, encoder, tmp_path):
    star = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    ImageDraw.Draw(star).regular_polygon((32, 32, 25), 5, fill="white")
    star.save(tmp_path / "star.png")
    assert add(empty, tmp_path / "star.png", [encoder]).added == ["star"]
    (thumbnail,) = empty.pictures().values()
    assert (float(thumbnail[:, 32, 32].min()), float(thumbnail[:, 0, 0].max())) == (1.0, 0.0)


def test_of_an_animation_the_first_frame_that_is_not_blank_goes_in_and_is_noted(empty, encoder, tmp_path):
    picture(1).save(tmp_path / "a.png", save_all=True, append_images=[picture(2)])
    blank = Image.new("RGB", (40, 40), "white")
    blank.save(tmp_path / "b.png", save_all=True, append_images=[picture(3)])
    blank.save(tmp_path / "c.png", save_all=True, append_images=[Image.new("RGB", (40, 40))])
    report = add(empty, [tmp_path / f"{name}.png" for name in "abc"], [encoder], note="scan")
    assert report.added == ["a", "b"]
    assert [path for path, _ in report.failed] == [str(tmp_path / "c.png")]
    assert empty.get("a").note == "scan; frame 1 of 2"
    assert empty.get("b").note == "scan; frame 2 of 2"
    assert empty.get("b").phash == phash(picture(3))
    assert original(empty.get("b"), empty.uri).tobytes() == picture(3).tobytes()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_list_says_more_than_the_options_do(empty, encoder, pictures, tmp_path, kind):
    listing = tmp_path / f"list.{kind}"
    rows = [
        {"path": "art/picture-0.png", "id": "zero", "owner": "Zed", "tags": "a; b,c", "policy": "withhold"},
        {"path": str(pictures[1]), "id": "", "owner": "", "tags": "", "policy": ""},
        {"path": "art/gone.png", "id": "", "owner": "", "tags": "", "policy": ""},
        {"path": "art/picture-2.png", "id": "", "owner": "", "tags": "", "policy": "maybe"},
        {"path": "art/picture-3.png", "id": "zero", "owner": "", "tags": "", "policy": ""},
    ]
    if kind == "csv":
        with listing.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), listing)
    report = add(empty, listing, [encoder], owner="Acme", tags=["x"], captions={"picture-1": "one"})
    assert report.added == ["zero", "picture-1"]
    first, second = empty.get("zero"), empty.get("picture-1")
    assert (first.owner, first.tags, first.policy, first.caption) == ("Zed", ("a", "b", "c"), "withhold", "")
    assert (second.owner, second.tags, second.policy, second.caption) == ("Acme", ("x",), "steer", "one")
    assert [Path(p).name for p, _ in report.failed] == ["gone.png", "picture-2.png", "picture-3.png"]
    assert "belongs to another picture" in report.failed[-1][1]


def test_a_text_file_names_a_path_a_line(empty, encoder, pictures, tmp_path):
    (tmp_path / "list.txt").write_text("# mine\nart/picture-4.png\n\nart/picture-0.png\n")
    assert add(empty, tmp_path / "list.txt", [encoder]).added == ["picture-4", "picture-0"]


def test_a_webdataset_shard_brings_captions_and_fields(empty, encoder, pictures, tmp_path):
    shard = tmp_path / "shard-0.tar"
    with tarfile.open(shard, "w") as tar:
        for name, body in {
            "x/000.json": json.dumps({"owner": "Zed", "tags": ["a"], "width": 3}).encode(),
            "x/000.png": pictures[0].read_bytes(),
            "x/000.txt": b" a caption\n",
            "x/001.png": pictures[1].read_bytes(),
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    assert add(empty, shard, [encoder], owner="Acme").added == ["000", "001"]
    item = empty.get("000")
    assert (item.source, item.caption, item.owner, item.tags) == (
        f"{shard}#x/000.png",
        "a caption",
        "Zed",
        ("a",),
    )
    assert empty.get("001").owner == "Acme"
    assert verify(empty, sources=True) == []


def test_bytes_that_lie_in_no_file_can_be_added(empty, encoder, pictures):
    source = Source("made/fox.png", pictures[0].read_bytes, {"caption": "a fox"})
    assert add(empty, [source], [encoder]).added == ["fox"]
    assert empty.get("fox").caption == "a fox"


@pytest.mark.parametrize("path", ["nowhere", "no*.png"])
def test_a_path_that_names_nothing_is_an_error_before_anything_is_added(
    empty, encoder, pictures, tmp_path, path
):
    with pytest.raises(InputError, match="no"):
        add(empty, [pictures[0], tmp_path / path], [encoder])
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b"file\nx.png\n"), ("a.parquet", b"PAR1"), ("a.tar", b"x" * 600)]
)
def test_a_list_that_cannot_be_read_is_named(empty, encoder, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        add(empty, tmp_path / name, [encoder])


def test_a_folder_without_pictures_is_reported(empty, encoder, tmp_path):
    (tmp_path / "void").mkdir()
    assert add(empty, tmp_path / "void", [encoder]).failed == [(str(tmp_path / "void"), "no pictures in it")]


def test_progress_is_told_after_each_commit(empty, encoder, pictures):
    told: list[tuple[Progress, int]] = []
    add(empty, pictures, [encoder], batch=2, on_progress=lambda p: told.append((p, len(empty))))
    assert [(p.done, p.total, p.added, held) for p, held in told] == [
        (2, 5, 2, 2),
        (4, 5, 4, 4),
        (5, 5, 5, 5),
    ]


def test_senseless_options_are_refused(empty, encoder, pictures):
    with pytest.raises(InputError, match="policy 'burn'"):
        add(empty, pictures, [encoder], policy="burn")
    with pytest.raises(InputError, match="batch"):
        add(empty, pictures, [encoder], batch=0)


@dataclass(frozen=True)
class Moody(TinyEncoder):
    """Gives NaN for pictures without any blue."""

    def __call__(self, images: Tensor) -> Tensor:
        embedding = super().__call__(images)
        embedding[images[:, 2].amax(dim=(1, 2)) == 0] = float("nan")
        return embedding


def test_a_picture_that_an_encoder_cannot_embed_is_reported_and_the_batch_goes_on(empty, pictures, tmp_path):
    red, green, blue = picture(9).split()
    Image.merge("RGB", (red, green, blue.point(lambda _: 0))).save(tmp_path / "art" / "yellow.png")
    report = add(empty, tmp_path / "art", [Moody()])
    assert len(report.added) == 5
    assert [(Path(p).name, "NaN" in r) for p, r in report.failed] == [("yellow.png", True)]


def test_the_protocol_fits_an_encoder_and_the_check_passes_what_is_sound(encoder):
    assert isinstance(encoder, Encoder)
    sound = torch.eye(48)[:2]
    assert check_embedding(sound, encoder, 2) is sound


@pytest.mark.parametrize(
    ("embedding", "reason"),
    [
        (torch.eye(48)[:1], r"\(1, 48\), not \(2, 48\)"),
        (torch.eye(47)[:2], r"\(2, 47\), not \(2, 48\)"),
        (torch.eye(48)[:2] * 2, "length 2, not 1"),
        (torch.zeros(2, 48), "length 0, not 1"),
        (torch.full((2, 48), float("nan")), "NaN or infinity"),
    ],
)
def test_an_embedding_that_cannot_be_trusted_is_refused(encoder, embedding, reason):
    with pytest.raises(EncoderError, match=rf"'tiny'.*{reason}"):
        check_embedding(embedding, encoder, 2)


def test_a_folder_that_datasets_saved_is_added_with_its_captions(library, encoder, tmp_path):

    files = write_pictures(tmp_path / "raw", range(10, 13))
    folder = tmp_path / "dataset" / "train"
    folder.mkdir(parents=True)
    files[2] = shutil.move(files[2], folder)
    pictures = [{"bytes": f.read_bytes(), "path": None} for f in files[:2]] + [
        {"bytes": None, "path": str(files[2])}
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(pictures, kind), "text": ["one", "two", "three"], "label": [1, 2, 3]})
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    report = add(library, [tmp_path / "dataset"], [encoder])
    assert (len(report.added), report.failed) == (3, [])
    assert [library.get(i).caption for i in report.added] == ["one", "two", "three"]


def test_a_dataset_without_pictures_or_with_damage_is_refused_by_name(library, encoder, tmp_path):

    table = pa.table({"label": [1, 2]})
    path = tmp_path / "data-00000-of-00001.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    with pytest.raises(InputError, match="no column of pictures"):
        add(library, [tmp_path], [encoder])
    (tmp_path / "data-00001-of-00002.arrow").write_bytes(b"no arrow")
    with pytest.raises(InputError, match=r"data-0000"):
        add(library, [tmp_path], [encoder])
