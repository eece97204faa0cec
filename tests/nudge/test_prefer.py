"""What pulls when nobody says: the nearest alternative, or the prompt less the words that bring the copy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from steerclear import Guard
from steerclear.errors import ConfigError
from steerclear.generators import PipelineRunner
from steerclear.nudge import SteerTask
from steerclear.nudge.base import OrdinaryPrompts
from steerclear.nudge.despecify import MAX_PARTS, _parts, despecify
from steerclear.nudge.final_latent import FinalLatent
from steerclear.nudge.ladder import Ladder
from steerclear.nudge.nearest_texts import nearest_texts
from steerclear.nudge.prefer import (
    PREFERENCES,
    PULLING_PICTURES,
    SAMPLES,
    preferred_latents,
    preferred_text,
    sorted_by_text_encoder,
)
from steerclear.nudge.screen import (
    PLAIN_TEXTS,
    Screened,
    guided_predictions,
    ordered,
    screened,
    usual_similarity,
)
from steerclear.nudge.subject import subject_texts
from steerclear.pixels import cosines
from steerclear.protected import Protected
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_pipeline

KNOWN = [
    "a fox, flat style",
    "a fox, noto style",
    "a cat, flat style",
    "a red car, noto style",
    "a photo of grass",
    "a bee",
    "a bus",
    "a key",
]
FAST = {"num_inference_steps": 3, "guidance_scale": 4.0}


def task_for(prompt, **wishes):
    runner = PipelineRunner(tiny_pipeline("sd1"))
    first = runner.run(prompt=prompt, generator=generators([1]), **FAST)
    return SteerTask(
        runner=runner,
        prompt=prompt,
        seed=1,
        kwargs=FAST,
        start=first.start,
        clean=first.latents,
        unwanted=first.latents,
        **wishes,
    )


def test_the_nearest_text_shares_the_rarest_word_not_the_most_words():
    assert set(nearest_texts("the acme fox mascot in any style", KNOWN, must_match=True)) == {
        "a fox, noto style",
        "a fox, flat style",
    }


def test_no_alternative_is_near_when_only_common_words_are_shared():
    assert nearest_texts("the style of a house", KNOWN, must_match=True) == []
    assert nearest_texts("the style of a house", [], must_match=False) == []


def test_a_photograph_of_something_else_is_not_near_and_neither_is_what_shares_another_word():
    assert nearest_texts("a photo of a cat on a red cushion", KNOWN, must_match=True) == ["a cat, flat style"]
    assert nearest_texts("a photo of a dog", KNOWN, must_match=True) == []


@pytest.mark.parametrize(
    ("prompt", "nearest"),
    [
        ("two bees", "a bee"),
        ("three foxes, flat style", "a fox, flat style"),
        ("a grassy hill", "a photo of grass"),
    ],
)
def test_a_plural_and_a_word_that_begins_a_longer_one_are_understood(prompt, nearest):
    assert nearest in nearest_texts(prompt, KNOWN, must_match=True)


def test_a_short_word_is_not_found_inside_longer_ones():
    assert nearest_texts("a catalogue of keyboards", KNOWN, must_match=True) == []


def test_a_callers_only_wish_is_taken_however_far_it_is():
    assert nearest_texts("anything", ["a watercolour"], must_match=False) == ["a watercolour"]


@given(prompt=st.text(max_size=60), texts=st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_what_is_found_was_given(prompt, texts):
    assert set(nearest_texts(prompt, texts, must_match=False)) <= set(texts)
    assert nearest_texts(prompt, texts, must_match=False)


def test_the_callers_wish_comes_before_the_alternatives_and_these_before_the_search():
    alternatives = tuple(KNOWN)
    assert (
        preferred_text(task_for("the acme fox", preferred_texts=("a bee",), alternatives=alternatives))
        == "a bee"
    )
    assert "fox" in preferred_text(task_for("the acme fox", alternatives=alternatives))
    searched = task_for("the zorblax")
    assert preferred_text(searched) in {"the", "zorblax"}
    assert searched.nfe > 0


def test_where_no_word_tells_the_models_own_text_encoder_does_and_no_evaluation_is_spent():
    task = task_for("the zorblax", alternatives=tuple(KNOWN))
    order = sorted_by_text_encoder(task, KNOWN)
    assert sorted(order) == sorted(KNOWN)
    assert preferred_text(task) == order[0]
    assert task.nfe == 0
    assert sorted_by_text_encoder(task_for("a key"), KNOWN)[0] == "a key"


def test_a_prompt_that_does_not_say_what_it_asks_for_is_understood_by_the_matched_items_caption():
    captions = ("the acme fox mascot, noto style",)
    assert "fox" in preferred_text(task_for("acme mascot", alternatives=tuple(KNOWN), captions=captions))
    assert preferred_text(task_for("a key", alternatives=tuple(KNOWN), captions=captions)) == "a key"


def test_every_rung_prefers_another_text_until_all_have_had_their_turn():
    task = task_for("the acme fox", alternatives=tuple(KNOWN))
    of_the_prompt = subject_texts(task.prompt)
    tried = []
    for task.attempt in range(len(KNOWN) + len(of_the_prompt)):
        tried.append(preferred_text(task))
    assert set(KNOWN) <= set(tried) <= {*KNOWN, *of_the_prompt}
    assert set(tried[:2]) == {"a fox, flat style", "a fox, noto style"}


def test_a_pipeline_whose_embeddings_are_not_known_falls_back_on_the_search(monkeypatch):
    task = task_for("the zorblax", alternatives=tuple(KNOWN))
    monkeypatch.setattr(task.runner, "pooled_embeddings", lambda texts, kwargs: None)
    assert preferred_text(task) in {"the", "zorblax"}
    assert task.nfe > 0


def test_without_alternatives_the_requests_own_subject_is_drawn_by_predicted_risk():
    task = task_for("the zorblax zebra mascot, flat style", shared_words=frozenset({"mascot"}))
    rows = screened(task, subject_texts(task.prompt, {"mascot"}))
    expected = ordered(rows)
    assert [preferred_text(task) for task.attempt in range(len(expected))] == expected
    assert task.nfe == len(rows) + 2 + len(PLAIN_TEXTS)


def test_a_caption_names_the_subject_that_a_prompt_does_not():
    task = task_for(
        "the zorblax mascot", shared_words=frozenset({"mascot"}), captions=("the zorblax zebra mascot",)
    )
    assert "zebra" in preferred_text(task)


def test_what_an_ordinary_prompt_reaches_is_measured_once_per_model_and_not_where_calibration_knows_it():
    task = task_for("a zebra")
    usual = usual_similarity(task)
    cost = task.nfe
    assert usual_similarity(task) == usual
    assert task.nfe == cost == len(PLAIN_TEXTS) + 1
    known = task_for("a zebra", ordinary=OrdinaryPrompts(similarity=((1.0, 0.2), (7.0, 0.8))))
    assert usual_similarity(known) == pytest.approx(0.5)
    assert known.nfe == 0


def test_a_guided_first_prediction_is_the_pipelines_own():
    task = task_for("a zebra")
    (screened_row,) = guided_predictions(task, [task.unguided_condition("a cat")])
    predicted, _ = task.runner.predict(
        task.condition("a cat"), task.start, kwargs=task.kwargs, generator=task.torch_generator(1)
    )
    torch.testing.assert_close(screened_row[None], predicted, rtol=1e-3, atol=1e-3)


def test_safe_texts_of_the_same_subject_come_first_then_risky_ones_then_those_of_another_subject():
    rows = [
        Screened(text, similarity=0.0, risk=risk, agreement=agreement)
        for text, risk, agreement in (
            ("a", 0.1, 0.95),
            ("b", 0.7, 0.99),
            ("c", -0.5, 1.0),
            ("d", 0.5, 1.0),
            ("e", 0.9, 1.0),
            ("f", -0.5, 0.4),
        )
    ]
    assert ordered(rows) == ["a", "c", "d", "b", "f"]


def harmless(task, *texts):
    """Let the first predictions of texts point away from everything protected."""
    for text in texts:
        task.cache[f"prediction:{text}"] = -task.unwanted[0]


def test_a_rewriter_proposes_first_and_is_told_what_failed():
    asked = []

    def rewriter(prompt, caption, failed):
        asked.append((prompt, caption, failed))
        return ["a quiet owl", "  "] if not failed else ["a red car"]

    task = task_for("the acme fox", alternatives=tuple(KNOWN), captions=("a caption",), rewriter=rewriter)
    harmless(task, "a quiet owl", "a red car")
    texts = [preferred_text(task) for task.attempt in range(3)]
    assert texts[:2] == ["a quiet owl", "a red car"]
    assert "fox" in texts[2]
    assert asked == [("the acme fox", "a caption", ()), ("the acme fox", "a caption", ("a quiet owl",))]


def test_a_rewriters_text_that_shows_the_copy_is_not_drawn():
    task = task_for("the acme fox", rewriter=lambda *_: ["the acme fox", "a quiet owl"])
    harmless(task, "a quiet owl")
    assert preferred_text(task) == "a quiet owl"


def test_where_there_are_no_words_any_other_class_is_preferred_once_the_near_ones_have_failed(monkeypatch):
    alternatives = tuple(KNOWN)
    task = task_for("the acme fox", alternatives=alternatives)
    monkeypatch.setattr(PipelineRunner, "prompted", False)
    assert "fox" in preferred_text(task)
    for task.attempt in range(2, 6):
        assert preferred_text(task) in KNOWN
    assert len({preferred_text(task) for task.attempt in range(2, 6)}) == 4
    assert task.nfe == 0


def test_despecifying_keeps_part_of_the_prompt_and_is_paid_for_once():
    task = task_for("the small acme fox mascot")
    shortened = despecify(task)
    cost = task.nfe
    assert 0 < len(shortened.prompt.split()) < 5
    assert sorted([*shortened.prompt.split(), *shortened.dropped]) == sorted(task.prompt.split())
    assert cost <= 2 * 5 + 2
    assert despecify(task) is shortened
    assert task.nfe == cost


@given(words=st.integers(1, 500))
def test_a_long_prompt_is_weighed_in_a_bounded_number_of_parts_that_lose_no_word(words):
    prompt = " ".join(f"w{i}" for i in range(words))
    parts = _parts(prompt)
    assert len(parts) <= MAX_PARTS
    assert " ".join(parts) == prompt


def pictures(count, like):
    return torch.randn(count, *like.shape[1:], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_every_preference_gives_a_text_and_latents_and_chooses_once(prefer):
    task = task_for("the small acme fox", alternatives=tuple(KNOWN), prefer=prefer)
    assert preferred_text(task)
    latents = preferred_latents(task)
    assert latents.shape[1:] == task.clean.shape[1:]
    cost = task.nfe
    assert preferred_latents(task) is latents
    assert task.nfe == cost


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_of_a_callers_many_pictures_the_nearest_few_pull_whatever_the_preference(prefer):
    task = task_for("the small acme fox", prefer=prefer)
    task.preferred_latents = pictures(12, task.clean)
    latents = preferred_latents(task)
    assert len(latents) == PULLING_PICTURES
    assert all(any(torch.equal(row, given_) for given_ in task.preferred_latents) for row in latents)


def test_a_callers_few_pictures_all_pull_and_cost_nothing_to_choose():
    task = task_for("the small acme fox")
    task.preferred_latents = pictures(PULLING_PICTURES, task.clean)
    assert preferred_latents(task) is task.preferred_latents
    assert task.nfe == 0


def test_lookalikes_are_nearest_to_the_flagged_picture():
    task = task_for("the small acme fox", prefer="lookalikes")
    task.preferred_latents = torch.cat([pictures(12, task.clean), task.clean + 0.01])
    latents = preferred_latents(task)
    assert torch.equal(latents[0], task.preferred_latents[-1])
    assert cosines(task.clean, latents).min() >= cosines(task.clean, task.preferred_latents).sort().values[-4]


def test_a_neighbour_of_the_despecified_prompt_is_an_alternative_or_that_prompt_itself():
    task = task_for("the small acme fox", alternatives=tuple(KNOWN), prefer="neighbours")
    assert preferred_text(task) in {*KNOWN, despecify(task).prompt}


def test_only_samples_that_the_filters_pass_pull():
    verdicts = iter([False, True])
    task = task_for("the small acme fox", prefer="samples")
    task.passes = lambda latent: next(verdicts)
    spent = preferred_text(task) and task.nfe
    assert len(preferred_latents(task)) == 1
    assert task.nfe - spent == SAMPLES * 2 * FAST["num_inference_steps"]
    none = task_for("the small acme fox", prefer="samples")
    none.passes = lambda latent: False
    assert len(preferred_latents(none)) == 1


def test_a_guard_refuses_an_unknown_preference():
    with pytest.raises(ConfigError, match="'magic'"):
        Guard(tiny_pipeline("sd1"), [MockFilter()], prefer="magic")


def test_a_guard_encodes_the_preferred_pictures_once_however_many_requests_follow(monkeypatch):
    pipe, encoded = tiny_pipeline("sd1"), []
    protected = Protected(pipe, {})
    original = protected.encode
    monkeypatch.setattr(
        protected, "encode", lambda images, *rest: encoded.append(len(images)) or original(images, *rest)
    )
    guard = Guard(
        pipe,
        [MockFilter(True)],
        protected=protected,
        preferred=[Image.new("RGB", (64, 64), "red")],
        ladder=Ladder((FinalLatent(iterations=1),)),
    )
    for seed in (1, 2):
        guard("the small acme fox", generator=torch.Generator().manual_seed(seed), **FAST)
    assert encoded == [1]
    guard.preferred = (Image.new("RGB", (64, 64), "blue"),) * 2
    guard("the small acme fox", generator=torch.Generator().manual_seed(1), **FAST)
    assert encoded == [1, 2]
