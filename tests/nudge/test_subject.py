"""A request's own subject stays when its names go."""

from __future__ import annotations

import pytest

from steerclear.nudge.subject import MOST_TEXTS, names_subject, subject_texts
from steerclear.nudge.words import WORD_LISTS, Kind, kind_of, segments

LONG = (
    "Portrait of a beautiful elf warrior princess with long silver hair, intricate armor, by Greg Rutkowski "
    "and Artgerm, trending on artstation, 8k, highly detailed, sharp focus, (cinematic lighting:1.3), "
    "<lora:elves:0.8>, art by Alphonse Mucha"
)


@pytest.mark.parametrize("word", ["fox", "foxes", "wolves", "astronaut", "Unicorn", "running-shoe"])
def test_what_can_be_drawn_is_known(word):
    assert kind_of(word) in (Kind.THING, Kind.OTHER)


@pytest.mark.parametrize("word", ["zorblax", "Rutkowski", "artstation", "eileen"])
def test_what_no_list_knows_is_a_name(word):
    assert kind_of(word) is Kind.NAME


@pytest.mark.parametrize("word", ["ein", "une", "la", "the", "their", "und"])
def test_function_words_of_many_languages_are_known(word):
    assert kind_of(word) is Kind.FUNCTION


def test_numbers_and_words_for_quality_say_how_and_not_what():
    assert all(kind_of(word) is Kind.STYLE for word in ("8k", "1920", "photo", "masterpiece", "trending"))


def test_weights_and_tags_are_no_words():
    words = [word.text for part in segments("(a fox:1.3), <lora:zorblax:0.8> [snow]") for word in part]
    assert words == ["a", "fox", "snow"]


def test_the_invented_name_goes_and_the_style_goes_last():
    generic, usual = {"mascot", "style", "twemoji"}, {"style", "twemoji"}
    texts = subject_texts("the zorblax robot mascot, twemoji style", generic, usual)
    assert texts[0] == "a robot mascot, twemoji style"
    assert texts.index("a robot, twemoji style") < texts.index("a robot")
    assert not any("zorblax" in text for text in texts)


def test_a_person_goes_and_what_the_person_is_stays():
    texts = subject_texts("a photo of astronaut Eileen Collins in her orange suit")
    assert texts[0] == "a photo of astronaut in her orange suit"
    assert texts[-1] == "an astronaut"


def test_a_row_of_nouns_is_about_its_last_one():
    texts = subject_texts("a photo of a wall clock swinging")
    assert texts[-1] == "a clock"


def test_a_long_prompt_loses_its_artists_and_sites_and_then_its_praise():
    texts = subject_texts(LONG)
    assert 3 < len(texts) <= MOST_TEXTS
    first = texts[0].lower()
    assert "princess" in first
    assert "sharp focus" in first
    for name in ("greg", "rutkowski", "artgerm", "mucha", "artstation", "lora"):
        assert not any(name in text.lower() for text in texts)
    assert "a princess" in texts


def test_of_a_language_that_the_lists_hardly_know_each_word_may_be_the_name():
    texts = subject_texts("ein roter Fuchs im Schnee, Zorblax Stil")
    assert "ein roter Fuchs im Schnee, Stil" in texts
    assert "roter Fuchs" in texts


def test_a_word_that_all_items_share_names_no_subject():
    assert not names_subject("the zorblax mascot", {"mascot"})
    assert names_subject("the zorblax robot mascot", {"mascot"})


@pytest.mark.parametrize(
    "prompt", ["", ",,,", "8k, sharp focus", "zorblax", "一只狐狸", "((()))", "a " * 400]
)
def test_a_prompt_without_known_words_gives_no_text_and_no_error(prompt):
    assert [text for text in subject_texts(prompt) if not text.strip()] == []


def test_no_text_is_the_prompt_itself():
    assert "a fox" not in subject_texts("a fox")


def test_the_word_lists_stay_small():
    assert WORD_LISTS.stat().st_size <= 200_000
