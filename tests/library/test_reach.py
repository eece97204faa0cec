"""What a list, a dataset or a library may make us read: regular files of a limited size, near by."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from steerclear.errors import ImageError, InputError
from steerclear.library import Library, add, read_image
from steerclear.library.files import Reach, read_file
from steerclear.library.pictures import original
from steerclear.library.sources import discover
from steerclear.testing import FakeEncoder


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.radial_gradient("L").rotate(seed * 20).convert("RGB").resize((64, 64)).save(path)
    return path


def text_list(folder, *paths):
    folder.mkdir(exist_ok=True)
    (folder / "list.txt").write_text("\n".join(map(str, paths)))
    return folder / "list.txt"


def csv_list(folder, *paths):
    folder.mkdir(exist_ok=True)
    with (folder / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path"], *([str(path)] for path in paths)])
    return folder / "list.csv"


def parquet_list(folder, *paths):
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"path": [str(path) for path in paths]}), folder / "list.parquet")
    return folder / "list.parquet"


def dataset(folder, *paths):
    folder.mkdir(exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": None, "path": str(path)} for path in paths], kind)})
    with pa.ipc.new_stream(folder / "data-00000.arrow", table.schema) as writer:
        writer.write_table(table)
    return folder


EVERY_LIST = pytest.mark.parametrize("make", [text_list, csv_list, parquet_list, dataset])


@EVERY_LIST
@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("../secret.png", "outside of its list's folder"),
        ("ABSOLUTE", "outside of its list's folder"),
        ("link.png", "outside of its list's folder"),
        ("https://intranet/secret.png", "an address"),
        ("file:///etc/passwd", "an address"),
        ("memory://secret.png", "an address"),
    ],
)
def test_a_row_that_leads_elsewhere_is_refused_and_the_others_are_read(tmp_path, make, named, reason):
    secret, good = picture(tmp_path / "secret.png"), picture(tmp_path / "list" / "good.png")
    (tmp_path / "list" / "link.png").symlink_to(secret)
    named = str(secret) if named == "ABSOLUTE" else named
    sources, _, _ = discover([make(tmp_path / "list", named, "good.png")])
    with pytest.raises(InputError, match=reason):
        sources[0].read()
    assert sources[1].read() == good.read_bytes()


@EVERY_LIST
def test_a_row_may_lead_elsewhere_where_the_user_says_so(tmp_path, make):
    secret = picture(tmp_path / "secret.png")
    reach = Reach(outside=True, remote=True)
    sources, _, _ = discover([make(tmp_path / "list", "../secret.png", secret, f"file://{secret}")], reach)
    assert [source.read() for source in sources] == [secret.read_bytes()] * 3


@EVERY_LIST
def test_devices_pipes_and_folders_are_not_read(tmp_path, make):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    reach = Reach(outside=True)
    named = ["/dev/zero", tmp_path / "pipe.png", tmp_path / "folder.png"]
    for source in discover([make(tmp_path / "list", *named)], reach)[0]:
        with pytest.raises((InputError, OSError), match=r"no regular file|[Ii]s a directory"):
            source.read()


def test_a_device_that_the_user_names_is_not_read_either():
    with pytest.raises(ImageError, match="no regular file"):
        read_image("/dev/zero")
    with pytest.raises(InputError, match="no regular file"):
        discover(["/dev/zero"])[0][0].read()


def test_a_file_beyond_the_limit_is_refused_before_it_is_read_whole(tmp_path):
    large = tmp_path / "large.png"
    with large.open("wb") as stream:
        stream.truncate(2**40)  # a terabyte of nothing, which takes no room
    with pytest.raises(InputError, match="limit of 268,435,456 bytes"):
        read_file(large)
    (source,) = discover([large], Reach(max_bytes=10))[0]
    with pytest.raises(InputError, match="limit of 10 bytes"):
        source.read()


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_a_list_without_an_end_of_line_is_refused_by_its_name(tmp_path, suffix):
    listed = tmp_path / f"endless{suffix}"
    with listed.open("wb") as stream:
        stream.write(b"path\n")
        stream.truncate(2**40)  # takes no room
    with pytest.raises(InputError, match=r"line 2 of the list '.*endless.* more than 6,400,000 characters"):
        discover([listed])


def test_a_list_beyond_the_limit_is_refused_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("steerclear.library.sources.LONGEST_LIST", 20)
    with pytest.raises(InputError, match=r"list\.txt' has more than 20 characters; split it"):
        discover([text_list(tmp_path / "list", *(f"{number}.png" for number in range(10)))])


# megabytes; getrusage would count what the process that started this one had as well
PEAK = """
import sys
def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024
"""
REPEATED = (
    PEAK
    + """
from steerclear.library.sources import discover
sources = discover([sys.argv[1]]).sources
assert len(sources) == 40_000 and {len(source.fields["caption"]) for source in sources} == {90_000}
print(peak())
"""
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of memory on this system")
def test_a_dataset_that_repeats_a_long_text_takes_a_bounded_amount_of_memory(tmp_path):
    captions = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int8()), ["a" * 90_000])  # 3.6 GB
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.nulls(40_000, kind), "text": captions})
    file = tmp_path / "data-00000.arrow"
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    assert file.stat().st_size < 1_000_000
    run = subprocess.run([sys.executable, "-c", REPEATED, file], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 1000


def test_a_cell_of_many_or_nested_values_is_refused_unread(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    many = pa.DictionaryArray.from_arrays(pa.array([0] * 10, pa.int8()), ["a" * 90_000])
    tags = pa.ListArray.from_arrays([0, 10, 10, 10], many, mask=pa.array([False, False, True]))
    notes = pa.array([None, {"a": 1}, None])
    table = pa.table({"image": pa.nulls(3, kind), "tags": tags, "note": notes})
    with pa.ipc.new_stream(tmp_path / "data-00000.arrow", table.schema) as writer:
        writer.write_table(table)
    for source, reason in zip(
        discover([tmp_path]).sources, ["its tags has", "its note is a struct", "no picture"], strict=True
    ):
        with pytest.raises(InputError, match=reason):
            source.read()


def test_a_bad_row_is_reported_and_the_rest_goes_in(tmp_path):
    picture(tmp_path / "list" / "good.png")
    encoder = FakeEncoder()
    library = Library.create(tmp_path / "library", [encoder])
    report = add(library, [text_list(tmp_path / "list", "/dev/zero", "good.png")], [encoder])
    assert len(report.added) == 1
    assert [reason for _, reason in report.failed] == [
        "'/dev/zero' is not read: it lies outside of its list's folder; allow that with --allow-outside"
    ]


@pytest.mark.parametrize(
    "source", ["/dev/zero", "FOLDER", "LIST", "http://intranet/a.png", "s3://other/a.png"]
)
@pytest.mark.parametrize("library_uri", ["library", "s3://bucket/library"])
def test_a_librarys_item_makes_nobody_read_more_than_its_own_file(tmp_path, source, library_uri, monkeypatch):
    from dataclasses import replace

    asked = []
    monkeypatch.setattr("fsspec.open", lambda address, *args: asked.append(address))
    picture(tmp_path / "list" / "good.png")
    encoder = FakeEncoder()
    library = Library.create(tmp_path / "library", [encoder])
    add(library, [tmp_path / "list" / "good.png"], [encoder])
    (item,) = library.items()
    places = {"FOLDER": str(tmp_path), "LIST": str(text_list(tmp_path / "list", "good.png"))}
    hostile = replace(item, source=places.get(source, source))
    assert original(hostile, library_uri) is None
    assert asked == []


def test_verifying_a_library_reads_addresses_only_with_consent(tmp_path, monkeypatch):
    import fsspec

    from steerclear.library import verify

    encoder = FakeEncoder()
    library = Library.create(tmp_path / "library", [encoder])
    file = picture(tmp_path / "good.png")
    address = f"file://{file}"
    add(library, [address], [encoder])
    opened, really_open = [], fsspec.open
    monkeypatch.setattr("fsspec.open", lambda name, *args: opened.append(name) or really_open(name, *args))
    (problem,) = verify(library, sources=True)
    assert "allow those with --allow-remote" in problem.reason
    assert opened == []
    assert verify(library, sources=True, remote=True) == []
    assert opened == [address]


@pytest.mark.parametrize("source", ["/dev/zero", "pipe.tar#a.png", "folder.tar#a.png", "*.tar#a.png"])
def test_verifying_a_library_reads_regular_files_alone(tmp_path, monkeypatch, source):
    from steerclear.library import verify as module

    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.tar")
    picture(tmp_path / "folder.tar" / "a.png")
    encoder = FakeEncoder()
    library = Library.create(tmp_path / "library", [encoder])
    add(library, [picture(tmp_path / "good.png")], [encoder])
    rows = library.export()
    rows = rows.set_column(rows.column_names.index("source"), "source", [[source]])
    monkeypatch.setattr(library, "export", lambda: rows)
    (problem,) = module(library, sources=True)
    assert "cannot be read" in problem.reason


LARGE = (
    PEAK
    + """
from steerclear.library.images import read_image, square_tensor, thumbnail, phash
picture = read_image(sys.argv[1])
square_tensor(picture, 64), thumbnail(picture), phash(picture)
print(picture.size, peak())
"""
)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of memory on this system")
@pytest.mark.parametrize(
    "mode", ["RGBA", *(pytest.param(m, marks=pytest.mark.slow) for m in ("RGB", "P", "L"))]
)
def test_a_small_file_of_many_pixels_takes_a_bounded_amount_of_memory(tmp_path, mode):
    file = tmp_path / "large.png"
    Image.new(mode, (8880, 8880), 200).save(file)
    assert file.stat().st_size < 2_000_000
    run = subprocess.run([sys.executable, "-c", LARGE, file], capture_output=True, text=True, check=True)
    size, megabytes = run.stdout.rsplit(" ", 1)
    assert size == "(2960, 2960)"
    assert int(megabytes) < 2000  # torch itself takes most of it


def test_a_reduced_picture_keeps_its_transparency(tmp_path):
    large = Image.new("RGBA", (5000, 5000), (0, 0, 0, 0))
    large.paste((255, 0, 0, 255), (0, 0, 2500, 5000))
    large.save(tmp_path / "large.png")
    seen = read_image(tmp_path / "large.png")
    assert seen.size == (2500, 2500)
    assert seen.getpixel((100, 100)) == (255, 0, 0)
    assert seen.getpixel((2400, 100)) == (255, 255, 255)


def test_what_the_command_line_allows_is_passed_on(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from steerclear.cli.library import app

    secret = picture(tmp_path / "secret.png")
    listed = text_list(tmp_path / "list", secret)
    words = ["add", str(listed), "--library", str(tmp_path / "library"), "--encoder", "clip"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code != 0
    assert "--allow-outside" in refused.output
    assert CliRunner().invoke(app, [*words, "--allow-outside", "--max-bytes", "10"]).exit_code != 0
    assert CliRunner().invoke(app, [*words, "--allow-outside"]).exit_code == 0
    assert Path(secret).exists()
