"""No bytes give anything but a result or an error of ours: pictures, lists, shards and JSON, mutated."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from corpus import FORMATS, _parquet, _tar, drawing, saved
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import bounded_memory, read_as_captions, read_as_list, read_as_picture

FEW, MANY = 15, 500

SEEDS = {
    kind: [
        saved(kind, **options),
        saved(kind, drawing("L"), **options),
        *(
            [saved(kind, save_all=True, append_images=[drawing().rotate(90)])]
            if kind in ("PNG", "WEBP", "GIF")
            else []
        ),
    ]
    for kind, options in FORMATS.items()
    if kind != "MPO"
}


@st.composite
def mutated(draw, seeds: list[bytes]) -> bytes:
    """A seed with some bytes changed, cut out, repeated or put in."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        # the structure of most formats lies in the first bytes
        place = draw(st.sampled_from([place, place % 64]))
        how = draw(st.sampled_from(["byte", "number", "cut", "repeat", "insert", "end"]))
        if how == "byte":
            content[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "number":
            number = draw(st.sampled_from([0, 1, 2**7, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]))
            content[place : place + 4] = number.to_bytes(4, draw(st.sampled_from(["big", "little"])))
        elif how == "cut":
            del content[place : place + draw(st.integers(1, 64))]
        elif how == "repeat":
            content[place:place] = content[place : place + draw(st.integers(1, 64))] * draw(st.integers(1, 9))
        elif how == "insert":
            content[place:place] = draw(st.binary(max_size=16))
        else:
            del content[place:]
    return bytes(content)


def examples(count):
    return settings(
        max_examples=count,
        phases=(Phase.generate,),
        database=None,
        derandomize=count == FEW,
        suppress_health_check=list(HealthCheck),
    )


def walk(count, seeds, read):
    """Lets a reader read mutated seeds, in a memory that no number in a file may blow up."""

    @examples(count)
    @given(mutated(seeds))
    def check(content):
        with bounded_memory():
            read(content)

    check()


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_mutated_pictures(kind, count):
    assert all(map(read_as_picture, SEEDS[kind]))
    walk(count, SEEDS[kind], read_as_picture)


def content_of(write, name):
    with TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def arrow(path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": saved("PNG"), "path": None}] * 2, kind)
    table = pa.table({"image": cells, "text": ["a fox", "a hare"]})
    with pa.ipc.new_stream(path, table.schema) as out:
        out.write_table(table)


LISTS = {
    "list.parquet": _parquet(path=["good.png"] * 3, caption=["a", None, "c"], tags=[["a"], [], ["b", "c"]]),
    "list.csv": lambda path: path.write_text('path,caption,tags\ngood.png,"a, b",x;y\ngood.png,c,\n'),
    "list.txt": lambda path: path.write_text("# mine\ngood.png\ngood.png\n"),
    "shard.tar": _tar(
        ("a.png", saved("PNG")), ("a.json", b'{"tags": ["a"], "owner": 5}'), ("b.jpg", saved("JPEG"))
    ),
    "data-00000.arrow": arrow,
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_mutated_lists(name, count, tmp_path):
    (tmp_path / "good.png").write_bytes(saved("PNG"))
    seed, read = content_of(LISTS[name], name), read_as_list(name)
    assert read(tmp_path, seed)
    walk(count, [seed], lambda content: read(tmp_path, content))


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_mutated_captions(count, tmp_path):
    seed = json.dumps({"fox": "a fox", "b": [1, {"c": None}], "\u202e": 1e300}).encode()
    assert read_as_captions(tmp_path, seed)
    walk(count, [seed], lambda content: read_as_captions(tmp_path, content))
