from types import SimpleNamespace

import pytest

from steerclear.generators.passes import class_called, class_name

NAMED = SimpleNamespace(labels={"tench": 0, "a fox noto style": 7})
NAMELESS = SimpleNamespace()


def test_a_class_is_spoken_of_by_its_name_where_it_has_one():
    assert class_name(NAMED, 0) == "tench"
    assert class_name(NAMED, 3) == class_name(NAMELESS, 3) == "class 3"


@pytest.mark.parametrize(
    ("pipe", "text", "label"),
    [
        (NAMED, "tench", 0),
        (NAMED, "a fox, noto style", 7),
        (NAMED, "class 12", 12),
        (NAMELESS, "class 3", 3),
        (NAMED, "a wolf", None),
        (NAMELESS, "class act", None),
    ],
)
def test_a_class_is_found_by_name_with_or_without_its_commas_and_by_number(pipe, text, label):
    assert class_called(pipe, text) == label
