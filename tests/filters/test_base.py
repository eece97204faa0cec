"""Every filter looks at every image, in order of cost, and no failure counts as clear."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from steerclear.filters import flagged, inspect, judge
from steerclear.filters.base import Filter, PassFilter, PromptsFilter, answers
from steerclear.filters.memorization import MemorizationFilter
from steerclear.filters.prompt import PromptFilter
from steerclear.pixels import to_image, to_tensor
from steerclear.testing import MockFilter
from steerclear.types import Detection

CLEAR, COPY = (
    Detection("mock", flagged=False, score=0.0, threshold=0.5),
    Detection("mock", flagged=True, score=1.0, threshold=0.5),
)


def pictures(*sizes):
    return [Image.new("RGB", size, (i, 0, 0)) for i, size in enumerate(sizes)]


def test_findings_lie_by_image_and_within_it_by_filter():
    first, second = (
        MockFilter([False, True, False], name="first"),
        MockFilter([True, False, False], name="second"),
    )
    detections = inspect([first, second], pictures((8, 8), (8, 8), (8, 8)))
    assert [[(d.filter, d.flagged) for d in row] for row in detections] == [
        [("first", False), ("second", True)],
        [("first", True), ("second", False)],
        [("first", False), ("second", False)],
    ]


def test_images_of_several_sizes_are_all_seen_each_by_itself():
    def shade(image):
        return float(image[0, 0, 0]) > 0.5 / 255  # the second and the third

    images = pictures((8, 8), (16, 8), (8, 16))
    filter_ = MockFilter(shade)
    assert [row[0].flagged for row in inspect([filter_], images)] == [False, True, True]
    assert [tuple(seen.shape) for seen in filter_.calls] == [(1, 3, 8, 8), (1, 3, 8, 16), (1, 3, 16, 8)]
    assert [row[0].flagged for row in judge([filter_], images)] == [False, True, True]


def test_two_sizes_are_several():
    filter_ = MockFilter([False, True])
    assert [row[0].flagged for row in inspect([filter_], pictures((8, 8), (16, 8)))] == [False, True]


def test_nothing_to_look_at_has_no_findings():
    filter_ = MockFilter(True)
    assert inspect([filter_], []) == judge([filter_], []) == []
    assert filter_.calls == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (list, "TypeError: returned 0 detections for 2 images"),
        (lambda: [CLEAR], "TypeError: returned 1 detections for 2 images"),
        (lambda: [CLEAR] * 3, "TypeError: returned 3 detections for 2 images"),
        (lambda: [CLEAR, False], "TypeError: returned 2 detections for 2 images"),
        (lambda: None, "TypeError: 'NoneType' object is not iterable"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_filter_that_does_not_answer_for_each_image_flags_them_all_and_says_why(answer, said):
    detections = answers(MockFilter(name="broken", threshold=0.7), answer, 2)
    assert len(detections) == 2
    for detection in detections:
        assert detection.flagged
        assert math.isnan(detection.score)
        assert (detection.filter, detection.threshold, detection.error) == ("broken", 0.7, said)


def test_an_answer_is_passed_on_as_it_is_and_made_without_gradients():
    asked = []

    def answer():
        asked.append(torch.is_grad_enabled())
        return iter([CLEAR, COPY])

    with torch.enable_grad():
        assert answers(MockFilter(), answer, 2) == [CLEAR, COPY]
    assert asked == [False]


def test_where_one_filter_breaks_the_others_still_answer():
    (row,) = inspect([MockFilter(RuntimeError("gone")), MockFilter(False, name="sound")], pictures((8, 8)))
    assert [(d.filter, d.flagged, d.error) for d in row] == [
        ("mock", True, "RuntimeError: gone"),
        ("sound", False, None),
    ]


def test_library_filters_all_look_at_every_image_and_the_others_at_what_is_clear_until_then():
    first = MockFilter([True, False, False], name="first", cost="library")
    second = MockFilter([False, True, False], name="second", cost="library")
    dear, costless = MockFilter(True, name="network"), MockFilter(False, name="costless")
    del costless.cost  # counts as a network
    detections = judge([dear, costless, first, second], pictures((8, 8), (8, 8), (8, 8)))
    assert [[d.filter for d in row] for row in detections] == [
        ["first", "second"],
        ["first", "second"],
        ["first", "second", "network", "costless"],
    ]
    assert [first.count, second.count, dear.count, costless.count] == [3, 3, 1, 1]
    assert torch.equal(dear.calls[0], to_tensor(pictures((8, 8), (8, 8), (8, 8))[2:]))


def test_what_was_found_before_comes_first_and_spares_the_networks():
    known = [(COPY,), (CLEAR,)]
    dear = MockFilter(True, name="network")
    detections = judge([dear], pictures((8, 8), (8, 8)), known)
    assert [[d.filter for d in row] for row in detections] == [["mock"], ["mock", "network"]]
    assert known == [(COPY,), (CLEAR,)]


def test_an_image_is_clear_only_where_a_filter_has_seen_it_and_none_flags():
    assert flagged([])
    assert flagged(iter([CLEAR, COPY]))
    assert flagged([replace(CLEAR, error="lost")])
    assert not flagged(iter([CLEAR, CLEAR]))


def test_pixels_are_those_of_the_picture_and_back_again():
    picture = Image.new("RGB", (2, 1))
    picture.putpixel((0, 0), (255, 0, 51))
    picture.putpixel((1, 0), (1, 2, 254))
    pixels = to_tensor([picture, picture.convert("L")])
    assert pixels.shape == (2, 3, 1, 2)
    assert pixels.dtype == torch.float32
    assert pixels.is_contiguous()
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    torch.testing.assert_close(pixels[0, :, 0, 1], torch.tensor([1.0, 2.0, 254.0]) / 255)
    assert torch.equal(pixels[1, 0], pixels[1, 2])
    assert to_image(pixels[0]).tobytes() == picture.tobytes()
    assert to_image(torch.full((3, 1, 1), 0.999)).getpixel((0, 0)) == (255, 255, 255)  # rounded, not cut off


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_pixels_that_are_no_numbers_make_no_picture(value):
    with pytest.raises(ValueError, match="not finite"):
        to_image(torch.full((3, 2, 2), value))


def test_a_filters_kind_of_detection_cannot_unflag_what_its_score_flags():
    class Lenient(Detection):
        def __post_init__(self):
            pass

    picture = Image.new("RGB", (4, 4))
    for lenient in (Lenient("mock", False, 0.9, 0.5), Lenient("mock", False, float("nan"), 0.5)):
        assert inspect([MockFilter(lenient)], [picture])[0][0].flagged


def test_filters_are_told_apart_by_what_they_look_at():
    of_pictures, of_prompts, of_passes = MockFilter(), PromptFilter.of(["fox"]), MemorizationFilter(1.0)
    kinds = [
        [isinstance(f, kind) for kind in (Filter, PromptsFilter, PassFilter)]
        for f in (of_pictures, of_prompts, of_passes)
    ]
    assert kinds == [[True, False, False], [False, True, False], [False, False, True]]
