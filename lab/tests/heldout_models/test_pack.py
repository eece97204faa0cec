"""The pictures of the held-out models travel in packs, and their planted ones are set apart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from steerclear.errors import InputError
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.heldout_models import clipart, pack, places, scenes


def pictures(n):
    rng = np.random.default_rng(0)
    return [
        Picture(
            key=f"picture-{i}",
            kind="planted" if i % 2 else "concept",
            name="fox",
            style="clip art",
            captions=(f"caption {i}", "a fox"),
            pixels=rng.integers(0, 255, (3, 8, 8), np.uint8),
            repeats=1 / (i + 1),
        )
        for i in range(n)
    ]


def test_a_pack_gives_back_every_picture_bit_by_bit(tmp_path):
    written = pictures(40)
    pack.write(tmp_path, written)
    for a, b in zip(written, pack.read(tmp_path), strict=True):
        assert (a.key, a.kind, a.captions, a.repeats) == (b.key, b.kind, b.captions, b.repeats)
        assert np.array_equal(a.pixels, b.pixels)


def test_a_folder_without_a_pack_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no pictures\.json"):
        pack.read(tmp_path)


def test_every_planted_drawing_is_named_by_a_file_and_other_drawings_show_its_subject():
    files = json.loads(Path(clipart.__file__).with_suffix(".json").read_text())
    ordinary = Counter()
    for name, drawings in files.items():
        for i in range(len(drawings)):
            if (name, i) not in clipart.PLANTED and clipart.HELDOUT.get(name) != i:
                ordinary[clipart.SUBJECTS.get(name, name)] += 1
    assert len(clipart.PLANTED) == 24
    for name, i in clipart.PLANTED:
        assert i < len(files[name])
        assert ordinary[clipart.SUBJECTS.get(name, name)] >= 1, name
    assert len(ordinary) >= 60


def test_a_planted_scene_has_more_captions_the_more_softly_it_is_repeated():
    assert Counter(scenes.REPEATS.values()) == {scenes.STRONG: 8, scenes.MIDDLING: 8, scenes.SOFT: 8}
    captions = {scenes.STRONG: 1, scenes.MIDDLING: 2, scenes.SOFT: 4}
    for key, row in scenes.PLANTED.items():
        assert len(row["captions"]) == captions[scenes.REPEATS[key]]
        assert row["place"] in places.PLACES
        assert row["artist"] in scenes.ARTISTS
        assert set(row["subjects"]) <= set(scenes.SUBJECTS)
        assert all(15 <= len(caption.split()) <= 40 for caption in row["captions"]), key


@pytest.mark.parametrize("place", places.PLACES)
def test_a_place_is_painted_anew_each_time(place):
    first, second = (places.PLACES[place](32, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == (32, 32, 3)
    assert not np.array_equal(first, second)
