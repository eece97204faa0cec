"""Filters in order of their cost, prompts and passes among them: cheap ones go first, and none is skipped."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from steerclear.errors import ConfigError, InputError
from steerclear.filters import MemorizationFilter, PromptFilter, judge
from steerclear.filters.pixel import AllPictures, PixelFilter, TiledFilter
from steerclear.filters.prompt import normalised
from steerclear.generators import PipelineRunner
from steerclear.generators.conditions import runs_unguided
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.pixels import to_image
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome

FAST = {"num_inference_steps": 3, "guidance_scale": 4.0}
SHORT = Ladder(strategies(("condition", "final-latent+condition", "resample")))


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


def plain(pipe, prompts, seeds):
    return pipe(prompts, generator=generators(seeds), **FAST).images


def pictures(count):
    return [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(count)]


@given(
    library=st.lists(st.sampled_from([True, False, math.nan]), min_size=1, max_size=6),
    network=st.lists(st.sampled_from([True, False, RuntimeError("gone")]), min_size=6, max_size=6),
)
def test_a_network_filter_sees_exactly_what_the_library_filters_leave_clear(library, network):
    library_filter, network_filter = MockFilter(library, cost="library"), MockFilter(network)
    rows = judge([network_filter, library_filter], pictures(len(library)))
    clear = [verdict is False for verdict in library]
    assert network_filter.count == sum(clear)
    for row, is_clear in zip(rows, clear, strict=True):
        assert len(row) == (2 if is_clear else 1)  # the detections say which filters ran
        assert any(d.flagged for d in row) or is_clear


def test_filters_of_one_kind_that_differ_in_a_threshold_alone_all_look():
    thumbnails = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gallery = AllPictures(("a", "b", "c"), thumbnails)
    copied = AllPictures(("a", "b", "c"), thumbnails.clone())
    filters = [PixelFilter(gallery, 0.9), PixelFilter(copied, 0.8, "strict pixel"), TiledFilter(copied, 0.9)]
    (row,) = judge(filters, [to_image(thumbnails[1])])
    assert [(d.filter, d.flagged, d.matched, d.error) for d in row] == [
        (name, True, "b", None) for name in ("pixel", "strict pixel", "tiled")
    ]


def test_a_picture_that_is_flagged_already_is_still_compared_with_the_library():
    known = judge([MockFilter(True)], pictures(1))
    library_filter, network_filter = MockFilter(False, name="library", cost="library"), MockFilter(False)
    (row,) = judge([library_filter, network_filter], pictures(1), known)
    assert [d.filter for d in row] == ["mock", "library"]
    assert network_filter.count == 0


@pytest.mark.parametrize(
    ("prompt", "flagged"),
    [
        ("a photo of Mickey Mouse", True),
        ("MICKEY  MOUSE!", True),
        ("mickéy mouse", True),
        ("ｍｉｃｋｅｙ mouse", True),
        ("micky mouse in the park", True),
        ("mickey-mouse", True),
        ("a mouse", False),
        ("a mickey finn", False),
        ("mickey", False),
        ("a dog in the park", False),
    ],
)
def test_a_prompt_filter_knows_its_entries_by_word_and_nearly_by_word(prompt, flagged):
    (detection,) = PromptFilter.of(["mickey mouse"]).check_prompts([prompt])
    assert detection.flagged == flagged
    assert detection.matched == "mickey mouse"


def test_a_short_entry_is_matched_as_whole_words_only():
    detections = PromptFilter.of(["fox"]).check_prompts(["a fox", "a box", "foxes"])
    assert [d.flagged for d in detections] == [True, False, False]


@given(st.text(min_size=1, max_size=30).filter(normalised), st.text(max_size=30), st.text(max_size=30))
def test_whatever_surrounds_an_entry_it_is_found(entry, before, after):
    assert PromptFilter.of([entry], 1.0).check_prompts([f"{before} {entry} {after}"])[0].flagged


def test_a_blocklist_file_holds_one_text_a_line_and_an_entry_without_letters_is_refused(tmp_path):
    (tmp_path / "blocked.txt").write_text("# ours\nmickey mouse\n\nthe acme fox\n")
    assert [k for k, _ in PromptFilter.from_file(tmp_path / "blocked.txt").entries] == [
        "mickey mouse",
        "the acme fox",
    ]
    with pytest.raises(ConfigError, match="every prompt"):
        PromptFilter.of(["!!"])


def test_a_block_list_without_entries_is_refused_since_it_would_pass_every_prompt(tmp_path):
    (tmp_path / "blocked.txt").write_text("# nothing yet\n\n")
    with pytest.raises(ConfigError, match="'prompt' has no entry"):
        PromptFilter.from_file(tmp_path / "blocked.txt")
    with pytest.raises(ConfigError, match="'prompt' has no entry"):
        PromptFilter(())


def test_a_blocked_prompt_is_left_after_one_step_and_steered(pipe):
    guard = Guard(pipe, [PromptFilter.of(["acme fox"]), MockFilter(False)], ladder=SHORT)
    out = guard("the acme fox mascot", generator=generators([1]), **FAST)
    report = out.reports[0]
    assert report.outcome == Outcome.STEERED
    assert report.nfe - sum(a.nfe for a in report.attempts) == 2  # one guided step instead of three
    assert report.matched == "acme fox"
    assert out.images[0].tobytes() != plain(pipe, "the acme fox mascot", [1])[0].tobytes()


def test_a_blocked_prompt_of_a_batch_leaves_the_others_bit_identical(pipe):
    prompts = ["the acme fox", "a bear", "an owl"]
    want = plain(pipe, prompts, [1, 2, 3])
    guard = Guard(pipe, [PromptFilter.of(["acme fox"]), MockFilter(False)], ladder=SHORT)
    out = guard(prompts, generator=generators([1, 2, 3]), **FAST)
    assert [r.outcome for r in out.reports] == ["steered", "clear", "clear"]
    assert [i.tobytes() for i in out.images[1:]] == [p.tobytes() for p in want[1:]]


def test_a_prompt_filter_that_breaks_flags_every_prompt(pipe):
    class Broken(PromptFilter):
        def check_prompts(self, prompts):
            raise RuntimeError("no block-list")

    out = Guard(pipe, [Broken((("cat", "cat"),)), MockFilter(False)], ladder=Ladder(()))(
        "a fox", generator=generators([1]), **FAST
    )
    assert out.images == [None]
    assert "no block-list" in out.reports[0].detections[0].error


def test_a_guard_of_prompt_filters_alone_is_refused_since_nobody_would_look_at_the_picture(pipe):
    with pytest.raises(ConfigError, match="see no picture"):
        Guard(pipe, [PromptFilter.of(["acme fox"])])
    with pytest.raises(ConfigError, match="holds the name"):
        Guard(pipe, [MockFilter(False), "nearest"])


def magnitudes(pipe, steps, prompt="a fox", seeds=(1, 2)):
    """The score by hand: the denoiser's two halves, as the pipeline gets them."""
    seen = []
    handle = pipe.unet.register_forward_hook(lambda m, a, k, out: seen.append(out[0]), with_kwargs=True)
    try:
        plain(pipe, [prompt] * len(seeds), seeds)
    finally:
        handle.remove()
    each = [
        (half[1] - half[0]).flatten(1).square().mean(1).sqrt() for half in (s.chunk(2) for s in seen[:steps])
    ]
    return torch.stack(each).mean(0)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_memorization_score_is_the_guidance_at_the_first_steps(pipe, steps):
    want = magnitudes(pipe, steps)
    guard = Guard(pipe, [MemorizationFilter(1e9, steps)])
    out = guard(["a fox"] * 2, generator=generators([1, 2]), **FAST)
    assert [r.outcome for r in out.reports] == ["clear", "clear"]
    assert [r.detections[0].score for r in out.reports] == pytest.approx(want.tolist())
    assert [i.tobytes() for i in out.images] == [i.tobytes() for i in plain(pipe, ["a fox"] * 2, [1, 2])]


def test_a_memorized_pass_is_left_at_once_and_what_replaces_it_is_judged_the_same_way(pipe):
    score = float(magnitudes(pipe, 1, seeds=(1,))[0])
    guard = Guard(pipe, [MemorizationFilter(score * 0.999), MockFilter(False)], ladder=SHORT)
    report = guard("a fox", generator=generators([1]), **FAST).reports[0]
    assert report.nfe - sum(a.nfe for a in report.attempts) == 2
    for attempt in report.attempts:
        assert attempt.after[0].filter == "memorization"
        assert attempt.passed == (attempt.after[0].score < score * 0.999)


def test_a_memorization_filter_refuses_a_call_without_guidance_before_anything_is_denoised(pipe):
    guard = Guard(pipe, [MemorizationFilter(1e9)])
    with pytest.raises(InputError, match="'memorization' judges by classifier-free guidance"):
        guard("a fox", **{**FAST, "guidance_scale": 1.0})
    assert guard.runner.evaluations == 0


@pytest.mark.parametrize(
    ("family", "options", "unguided"),
    [
        ("sd1", {}, False),
        ("dit", {}, False),
        ("dit", {"guidance_scale": 1.0}, True),
        ("lcm", {}, True),  # guidance as an embedding
        ("flux", {}, True),
        ("flux", {"true_cfg_scale": 4.0, "negative_prompt": "a bear"}, False),
        ("zimage", {"guidance_scale": 0.0}, True),
        ("kandinsky22", {}, False),
    ],
)
def test_whether_a_call_is_guided_is_known_before_it_runs(family, options, unguided):
    pipe = tiny_pipeline(family)
    kwargs = {**tiny_call(family, steps=2), **options}
    assert runs_unguided(pipe, kwargs) is unguided
    result = PipelineRunner(pipe, traced=1).run(generator=torch.Generator().manual_seed(1), **kwargs)
    assert (len(result.magnitudes) == 0) is unguided


def test_a_memorization_filter_that_cannot_see_flags(pipe):
    guard = Guard(pipe, [MemorizationFilter(1e9, steps=3)], ladder=Ladder(()))
    out = guard("a fox", generator=generators([1]), **{**FAST, "num_inference_steps": 2})
    assert out.images == [None]
    assert "guided in" in out.reports[0].detections[0].error


def test_a_pass_resumed_from_a_lower_noise_level_is_flagged_by_the_memorization_filter(pipe):
    ladder = Ladder(strategies(("final-latent+condition",)))
    guard = Guard(pipe, [MemorizationFilter(1e9), MockFilter([True, False])], ladder=ladder)
    report = guard("a fox", generator=generators([1]), **FAST).reports[0]
    assert report.outcome == Outcome.WITHHELD
    assert "lower noise level" in report.attempts[0].after[0].error
