"""What stands for an image that is withheld: nothing, a placeholder, or an error."""

from __future__ import annotations

import pytest
from PIL import Image

import steerclear
from guard_doubles import (
    FAST,
    library_protecting,
    seeded,
    use_tiny_descriptor,
)
from steerclear import Guard
from steerclear.errors import ConfigError, WithheldError
from steerclear.nudge.ladder import Ladder
from steerclear.testing import MockFilter, tiny_pipeline


@pytest.fixture
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def library(pipe, tmp_path):
    return library_protecting(pipe, tmp_path)


@pytest.fixture(autouse=True)
def tiny_descriptor(monkeypatch):
    use_tiny_descriptor(monkeypatch)


def test_a_placeholder_has_the_size_of_the_picture_and_shows_nothing_of_it(pipe):
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(()), on_withheld="placeholder")
    output = guard(["a fox", "an owl"], generator=[seeded(0), seeded(1)], height=64, width=96, **FAST)
    placeholder, picture = output.images
    assert placeholder.size == picture.size == (96, 64)
    assert len(placeholder.getcolors()) == 1
    assert [r.outcome for r in output.reports] == ["withheld", "clear"]
    assert output.nsfw_content_detected == [True, False]


def test_a_placeholder_has_that_size_as_well_where_the_first_pass_was_left_early(pipe, library):
    class Blocked:
        name, threshold = "prompt", 0.5

        def check_prompts(self, prompts):
            return [steerclear.Detection("prompt", True, 1.0, 0.5) for _ in prompts]

    guard = Guard.wrap(pipe, library, filters=[Blocked()], ladder=Ladder(()), on_withheld="placeholder")
    output = guard("a fox", generator=seeded(), **FAST)
    assert output.reports[0].nfe < output.reports[0].nfe_plain
    assert output.images[0].size == pipe("a fox", generator=seeded(), **FAST).images[0].size


def test_raising_for_a_withheld_image_loses_none_of_the_others(pipe):
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(()), on_withheld="raise")
    with pytest.raises(WithheldError, match="1 of 2 images are withheld") as error:
        guard(["a fox", "an owl"], generator=[seeded(0), seeded(1)], **FAST)
    assert error.value.output.images[0] is None
    assert isinstance(error.value.output.images[1], Image.Image)
    Guard(pipe, [MockFilter(False)], on_withheld="raise")("a fox", generator=seeded(), **FAST)


def test_what_stands_for_a_withheld_image_is_checked_when_it_is_set(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    with pytest.raises(ConfigError, match="on_withheld is 'rase'"):
        guard.on_withheld = "rase"


def test_what_was_flagged_is_shown_to_who_asked_and_to_nobody_else(pipe):
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(()))
    shown = []
    output = guard(
        ["a fox", "an owl"],
        generator=[seeded(0), seeded(1)],
        on_flagged=lambda *flagged: shown.append(flagged),
        **FAST,
    )
    [(number, picture, report)] = shown
    plain = pipe(["a fox", "an owl"], generator=[seeded(0), seeded(1)], **FAST).images[0]
    assert (number, report) == (0, output.reports[0])
    assert picture.tobytes() == plain.tobytes()
    assert output.images[0] is None


def test_nothing_is_handed_out_if_what_was_flagged_cannot_be_recorded(pipe):
    def record(number, picture, report):
        raise OSError("the disk is full")

    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(()))
    with pytest.raises(OSError, match="the disk is full"):
        guard(["a fox", "an owl"], generator=[seeded(0), seeded(1)], on_flagged=record, **FAST)
    with pytest.raises(ConfigError, match="on_flagged is 3"):
        guard("a fox", on_flagged=3, **FAST)
