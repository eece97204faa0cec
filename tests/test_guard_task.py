"""What a guard tells its strategies of the one image that was flagged, and its reports of every image, is
that image's own.
"""

from __future__ import annotations

import time

import pytest
import torch
from PIL import Image

from steerclear.errors import ConfigError, UnsupportedError
from steerclear.filters import EarlyVerdict, MemorizationFilter, PromptFilter
from steerclear.filters.early import Settings
from steerclear.guard import WORDLESS_LADDER, Guard
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.base import Candidate
from steerclear.nudge.ladder import strategies
from steerclear.pipelines import latent_like
from steerclear.pixels import to_tensor
from steerclear.protected import Protected
from steerclear.steering import derive, generators
from steerclear.testing import FakeEncoder, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Detection, Outcome

FAST = {"num_inference_steps": 3, "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


class Watching:
    """A rung that keeps the task, asks something of it, and draws an owl."""

    name = "watching"

    def __init__(self, ask=lambda task: None):
        self.tasks, self.answers, self.ask = [], [], ask

    def apply(self, task, seed):
        self.tasks.append(task)
        self.answers.append(self.ask(task))
        condition, noise = task.condition("an owl at night"), task.torch_generator(seed)
        return Candidate(
            task.runner.regenerate(condition, task.start, kwargs=task.kwargs, generator=noise), "watched"
        )


def only(place, count):
    """A filter that flags one of so many images, and nothing that is made in its stead."""
    return MockFilter([i == place for i in range(count)] + [False])


def colour(name, size=(64, 64)):
    return Image.new("RGB", size, name)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_strategy_is_given_the_prompt_the_arguments_and_the_latents_of_the_flagged_image_alone(pipe, place):
    ask = {
        "prompt": ["a fox", "a bear"],
        "negative_prompt": ["a cat", "a dog"],
        "num_images_per_prompt": 2,
        **FAST,
    }
    watching = Watching()
    guard = Guard(pipe, [only(place, 4)], ladder=Ladder((watching,)))
    output = guard(generator=generators([1, 2, 3, 4]), **ask)
    (task,) = watching.tasks
    assert [r.prompt for r in output.reports] == ["a fox", "a fox", "a bear", "a bear"]
    assert [r.seed for r in output.reports] == [1, 2, 3, 4]
    assert [r.outcome for r in output.reports].index(Outcome.STEERED) == place
    assert (task.prompt, task.seed) == (ask["prompt"][place // 2], place + 1)
    assert task.kwargs == {**FAST, "negative_prompt": ask["negative_prompt"][place // 2]}
    noise = torch.randn((1, 4, 8, 8), generator=generators([place + 1])[0])
    torch.testing.assert_close(task.start, noise)
    latents = pipe(generator=generators([1, 2, 3, 4]), output_type="latent", **ask).images
    assert torch.equal(task.clean, latents[place : place + 1])
    assert torch.equal(task.unwanted, task.clean)


def test_prompts_may_come_in_any_sequence(pipe):
    output = Guard(pipe, [MockFilter(False)])(("a fox", "a bear"), generator=generators([1, 2]), **FAST)
    plain = pipe(["a fox", "a bear"], generator=generators([1, 2]), **FAST).images
    assert [image.tobytes() for image in output.images] == [image.tobytes() for image in plain]


def test_attempts_on_images_that_share_a_generator_have_seeds_of_their_own(pipe):
    watching = Watching()
    guard = Guard(pipe, [MockFilter([True, True, False, False])], ladder=Ladder((watching,)))
    output = guard("a fox", num_images_per_prompt=2, generator=generators([5])[0], **FAST)
    assert [task.seed for task in watching.tasks] == [derive(5, "image", i) for i in range(2)]
    assert [report.seed for report in output.reports] == [None, None]


def test_a_strategy_is_given_the_guards_wishes_alternatives_and_captions(pipe):
    pixels = to_tensor([colour("red"), colour("blue")])
    captions, described = {"item-0": "a red one", "item-1": "a blue one"}, []

    def describe(ids):
        described.append(list(ids))
        return captions

    protected = Protected(pipe, {f"item-{i}": p for i, p in enumerate(pixels)}, describe=describe)
    copy, clear = (
        Detection("mock", flagged=flagged, score=float(flagged), threshold=0.5, matched=f"item-{i}")
        for i, flagged in enumerate((True, False))
    )
    watching = Watching()
    guard = Guard(
        pipe,
        [MockFilter([verdict, False]) for verdict in (copy, clear, True, copy)],
        protected=protected,
        preferred=["a boat", colour("green")],
        alternatives=["a key"],
        ladder=Ladder((watching,)),
        prefer="samples",
    )
    guard("a fox", generator=generators([1]), **FAST)
    (task,) = watching.tasks
    assert (task.preferred_texts, task.alternatives, task.captions) == (
        ("a boat",),
        ("a key",),
        ("a red one",),
    )
    assert torch.equal(task.preferred_latents, protected.encode([colour("green")], task.clean))
    assert torch.equal(task.unwanted, protected.latents(["item-0"], task.clean))
    assert task.prefer == "samples"
    assert ["item-0"] in described  # only what is named and flagged


def test_without_a_library_a_strategy_is_told_of_no_caption_picture_or_verdict(pipe):
    watching = Watching()
    Guard(pipe, [only(0, 1)], ladder=Ladder((watching,)))("a fox", generator=generators([1]), **FAST)
    (task,) = watching.tasks
    assert (task.captions, task.preferred_latents, task.passes, task.preferred_texts) == ((), None, None, ())
    assert task.prefer == "text"


@pytest.mark.parametrize(
    ("ordinary", "stricter", "passes"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_a_strategy_may_ask_whether_a_latent_would_pass_the_very_filters_that_verify(
    pipe, ordinary, stricter, passes
):
    protected = Protected(pipe, {})
    filter_, strict = MockFilter([True, ordinary, False]), MockFilter([stricter, False], name="strict")
    watching = Watching(lambda task: task.passes(task.clean))
    guard = Guard(pipe, [filter_], protected=protected, strict=[strict], ladder=Ladder((watching,)))
    guard("a fox", generator=generators([1]), **FAST)
    assert watching.answers == [passes]
    shown = to_tensor(protected.decode(watching.tasks[0].clean))
    assert torch.equal(filter_.calls[1], shown)
    assert torch.equal(strict.calls[0], shown)


def test_preferred_pictures_are_encoded_for_each_size_that_is_asked_for(pipe):
    watching = Watching()
    guard = Guard(
        pipe,
        [MockFilter([True, False])],
        protected=Protected(pipe, {}),
        preferred=[colour("red")],
        ladder=Ladder((watching,)),
    )
    for height, width in ((64, 64), (32, 64), (64, 32)):
        guard("a fox", height=height, width=width, generator=generators([1]), **FAST)
    shapes = [tuple(task.preferred_latents.shape[1:]) for task in watching.tasks]
    assert (
        shapes
        == [tuple(task.clean.shape[1:]) for task in watching.tasks]
        == [(4, 8, 8), (4, 4, 8), (4, 8, 4)]
    )


def test_preferred_pictures_are_encoded_again_where_only_the_shape_or_only_the_size_tells():
    half = colour("red")
    half.paste("blue", (0, 0, 64, 20))
    packed, by_picture = tiny_pipeline("flux"), tiny_pipeline("sd1-image")
    sizes = [{"height": 64, "width": 32}, {"height": 32, "width": 64}]
    pictures = [{"image": colour("green")}, {"image": colour("green", (64, 96))}]
    for family, pipe, calls in (("flux", packed, sizes), ("sd1-image", by_picture, pictures)):
        watching, protected = Watching(), Protected(pipe, {})
        guard = Guard(
            pipe,
            [MockFilter([True, False])],
            protected=protected,
            preferred=[half],
            ladder=Ladder((watching,)),
        )
        for call in calls:
            guard(generator=generators([1])[0], **{**tiny_call(family, "a fox", 2), **call})
        for task, call in zip(watching.tasks, calls, strict=True):
            size = (call["height"], call["width"]) if "height" in call else None
            assert torch.equal(task.preferred_latents, protected.encode([half], task.clean, size))


@pytest.mark.parametrize(("height", "width"), [(64, 32), (32, 64)])
def test_of_a_packed_latent_everything_is_made_at_the_size_that_was_asked_for(height, width):
    """(64, 32) and (32, 64) pack into equally many pieces, so that the latent itself does not tell."""
    pipe = tiny_pipeline("flux")
    call = {**tiny_call("flux", "a fox", 2), "height": height, "width": width}
    protected = Protected(pipe, {"item": to_tensor([colour("red")])[0]})
    copy = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="item")
    filter_ = MockFilter([copy, copy, False])
    watching = Watching(lambda task: task.spaces("decode").look(task.clean).shape)
    guard = Guard(
        pipe,
        [filter_, MockFilter(False)],
        protected=protected,
        preferred=[colour("blue")],
        encoder=FakeEncoder(),
        ladder=Ladder((watching,) * 2),
    )
    guard(generator=generators([1])[0], **call)
    first, second = watching.tasks
    size = (height, width)
    assert watching.answers == [(1, 3, *size)] * 2
    first.passes(first.clean)
    assert {tuple(seen.shape[-2:]) for seen in filter_.calls} == {size}
    assert torch.equal(first.preferred_latents, protected.encode([colour("blue")], first.clean, size))
    assert torch.equal(second.unwanted, protected.latents(["item"], first.clean, size))


def test_a_strategy_finds_the_encoders_space_by_name(pipe):
    encoder, protected = FakeEncoder(), Protected(pipe, {"item": to_tensor([colour("red")])[0]})
    watching = Watching(lambda task: [task.spaces(name) for name in ("preview", "decode")])
    seeing, other = only(0, 1), MockFilter(False)
    seeing.encoder = encoder  # so that the stricter filter is the only one with eyes of its own
    guard = Guard(
        pipe, [seeing], strict=[other], protected=protected, encoder=encoder, ladder=Ladder((watching,))
    )
    output = guard("a fox", generator=generators([1]), **FAST)
    assert output.reports[0].attempts[0].stopped == "watched"
    ((preview, decode),) = watching.answers
    latent = watching.tasks[0].clean
    assert preview.encoder is decode.encoder is encoder
    assert torch.equal(preview.look(latent), protected.preview(latent))
    assert torch.equal(decode.look(latent), protected.pixels(latent))


@pytest.mark.parametrize("missing", ["encoder", "protected"])
def test_without_an_encoder_or_a_library_there_is_no_encoders_space(pipe, missing):
    def ask(task):
        with pytest.raises(
            UnsupportedError, match=r"space of a decode needs Guard\(…, encoder=…, protected=…\)"
        ):
            task.spaces("decode")

    parts = {"encoder": FakeEncoder(), "protected": Protected(pipe, {}), missing: None}
    watching = Watching(ask)
    guard = Guard(pipe, [only(0, 1)], ladder=Ladder((watching,)), **parts)
    assert guard("a fox", generator=generators([1]), **FAST).reports[0].outcome == Outcome.STEERED


def early_verdict(pipe, step):
    latents = torch.ones(1, *latent_like(pipe).shape[1:])
    settings = Settings(
        (type(pipe.scheduler).__name__,),
        steps=(1, 99),
        guidance=(0.0, 99.0),
        spacing=pipe.scheduler.config.timestep_spacing,
    )
    return EarlyVerdict(("item",), latents=latents, threshold=-1.0, step=step, settings=settings)


@pytest.mark.parametrize("step", [0, 1])
def test_an_early_verdict_is_given_at_its_own_step(pipe, step):
    guard = Guard(pipe, [MockFilter(False)], early=early_verdict(pipe, step), ladder=Ladder(()))
    (report,) = guard("a fox", generator=generators([1]), **FAST).reports
    assert (report.nfe, report.nfe_plain) == (2 * (step + 1), 2 * FAST["num_inference_steps"])
    assert [d.filter for d in report.detections] == ["early"]


def test_where_a_pass_is_left_the_filters_look_at_what_it_was_about_to_make(pipe):
    protected, filter_ = Protected(pipe, {}), MockFilter([True, False], name="library", cost="library")
    watching = Watching()
    guard = Guard(
        pipe, [filter_], protected=protected, early=early_verdict(pipe, 1), ladder=Ladder((watching,))
    )
    (report,) = guard("a fox", generator=generators([1]), **FAST).reports
    assert [(d.filter, d.flagged) for d in report.detections] == [("early", True), ("library", True)]
    assert torch.equal(filter_.calls[0], to_tensor(protected.decode(watching.tasks[0].clean)))


def blocking(prompt):
    return [PromptFilter.of([prompt]), MockFilter(False)]


@pytest.mark.parametrize(
    ("family", "options"),
    [("sd1", {}), ("sd1-image", {"strength": 0.5}), ("kandinsky22", {}), ("dit", {"guidance_scale": 4.0})],
)
def test_a_pass_that_is_left_early_says_what_the_plain_one_would_have_cost(family, options):
    pipe = tiny_pipeline(family)
    call = {**tiny_call(family, "a fox", 4), **options}
    whole = Guard(pipe, [MockFilter(False)])(generator=generators([1])[0], **call).reports[0]
    filters, early = (
        (blocking("a fox"), None) if family != "dit" else ([MockFilter(True)], early_verdict(pipe, 0))
    )
    guard = Guard(pipe, filters, early=early, ladder=Ladder(()))
    left = guard(generator=generators([1])[0], **call).reports[0]
    assert left.nfe < whole.nfe
    assert left.nfe_plain == whole.nfe_plain == whole.nfe


def test_a_blocked_prompt_is_judged_with_the_others_of_its_call_and_only_its_own_images(pipe):
    guard = Guard(pipe, blocking("a bear"), ladder=Ladder(()))
    output = guard(["a fox", "a bear"], num_images_per_prompt=2, generator=generators([1, 2, 3, 4]), **FAST)
    assert [r.outcome for r in output.reports] == ["clear", "clear", "withheld", "withheld"]
    assert [[d.filter for d in r.detections] for r in output.reports] == [["prompt", "mock"]] * 2 + [
        ["prompt"]
    ] * 2


def test_a_filter_of_prompts_is_asked_nothing_where_there_are_only_classes():
    call = tiny_call("dit", steps=2)
    output = Guard(tiny_pipeline("dit"), blocking("class 1"))(generator=generators([1])[0], **call)
    assert [d.filter for d in output.reports[0].detections] == ["mock"]
    assert output.reports[0].prompt == "class 1"


def test_what_a_filter_finds_counts_whatever_its_name(pipe):
    """Of the early verdict alone a finished picture takes no notice, and a filter may happen to have its
    name.
    """
    asked = PromptFilter((("fox", "a fox"),), name="early")
    followed = MemorizationFilter(0.0, name="early")
    for filter_ in (asked, followed):
        guard = Guard(pipe, [filter_, MockFilter(False)], ladder=Ladder(()))
        output = guard(["an owl", "a fox"], generator=generators([1, 2]), **FAST)
        assert output.images[1] is None
        assert [(d.filter, d.flagged) for d in output.reports[1].detections] == [("early", True)]


def test_filters_of_the_pass_each_see_as_many_steps_as_they_need(pipe):
    first_step, three_steps = MemorizationFilter(1e9, 1, "one"), MemorizationFilter(1e9, 3, "three")
    output = Guard(pipe, [first_step, three_steps])(["a fox"] * 2, generator=generators([1, 2]), **FAST)
    for report in output.reports:
        assert [(d.filter, d.flagged, d.error) for d in report.detections] == [
            ("one", False, None),
            ("three", False, None),
        ]
    alone = Guard(pipe, [first_step])("a fox", generator=generators([2]), **FAST).reports[0]
    assert output.reports[1].detections[0].score == pytest.approx(alone.detections[0].score, rel=1e-3)
    assert output.reports[0].detections[0].score != pytest.approx(alone.detections[0].score, rel=1e-3)


def test_a_flagged_pass_does_not_excuse_the_pictures_of_the_others(pipe):
    scores = [
        Guard(pipe, [MemorizationFilter(1e9)])(p, generator=generators([1]), **FAST)
        .reports[0]
        .detections[0]
        .score
        for p in ("a fox", "an owl at night")
    ]
    guard = Guard(pipe, [MemorizationFilter(sum(scores) / 2), MockFilter([True, False])], ladder=Ladder(()))
    output = guard(["a fox", "an owl at night"], generator=generators([1, 1]), **FAST)
    assert output.images == [None, None]
    verdicts = sorted([(d.filter, d.flagged) for d in r.detections] for r in output.reports)
    assert verdicts == [[("memorization", False), ("mock", True)], [("memorization", True)]]


def test_the_seconds_of_a_call_are_shared_among_its_images(pipe):
    began = time.monotonic()
    reports = Guard(pipe, [only(1, 2)], ladder=Ladder((Watching(),)))(
        ["a fox"] * 2, generator=generators([1, 2]), **FAST
    ).reports
    elapsed = time.monotonic() - began
    clear, steered = reports
    assert 0 < clear.seconds < steered.seconds
    assert steered.seconds - clear.seconds >= steered.attempts[0].seconds
    assert 0.5 * elapsed < clear.seconds + steered.seconds <= elapsed


def test_a_budget_of_the_call_takes_the_place_of_the_ladders_for_that_call(pipe):
    guard = Guard(pipe, [MockFilter(True)], ladder=Ladder((Watching(),) * 2, Budget(overhead=1.0)))
    attempts = [
        len(guard("a fox", generator=generators([1]), **more, **FAST).reports[0].attempts)
        for more in ({}, {"budget": Budget(overhead=2.0)}, {"budget": None})
    ]
    assert attempts == [1, 2, 1]


def test_a_finished_picture_is_checked_by_the_ordinary_filters_one_tuple_a_picture(pipe):
    ordinary, stricter = MockFilter([True, False]), MockFilter(True, name="strict")
    detections = Guard(pipe, [ordinary], strict=[stricter]).check([colour("red"), colour("blue")])
    assert [[(d.filter, d.flagged) for d in row] for row in detections] == [
        [("mock", True)],
        [("mock", False)],
    ]
    assert stricter.count == 0


def test_without_a_ladder_a_guard_takes_the_one_that_its_pipeline_can_follow(pipe):
    assert Guard(pipe, [MockFilter(False)]).ladder == Ladder()
    wordless = Guard(tiny_pipeline("dit"), [MockFilter(False)])
    assert wordless.ladder == Ladder(strategies(WORDLESS_LADDER))
    assert (
        *("rewrite",) * 3,
        "trajectory",
        "shield",
        "final-latent",
        *("resample",) * 2,
    ) == WORDLESS_LADDER
    given = Ladder(())
    assert Guard(pipe, [MockFilter(False)], ladder=given).ladder is given


def test_what_a_guard_cannot_work_with_is_named_when_it_is_made(pipe):
    with pytest.raises(ConfigError, match=r"filters holds the name 'nearest'; names go to Guard\.wrap"):
        Guard(pipe, [MockFilter(False), "nearest", 3])
    with pytest.raises(ConfigError, match="3 is no filter: it needs a name, a threshold"):
        Guard(pipe, [MockFilter(False), 3])
    with pytest.raises(ConfigError, match=r"MemorizationFilter\(.*\) does not see pictures; strict takes"):
        Guard(pipe, [MockFilter(False)], strict=[MockFilter(False), MemorizationFilter(1.0)])
    with pytest.raises(ConfigError, match="preferred pictures are encoded as the protected ones are"):
        Guard(pipe, [MockFilter(False)], preferred=["a boat", colour("red")])
    with pytest.raises(ConfigError, match="prefer is 'magic'; there are text, despecified"):
        Guard(pipe, [MockFilter(False)], prefer="magic")
    assert Guard(pipe, [MockFilter(False)], preferred=["a boat"]).preferred == ("a boat",)
    assert Guard(pipe, [MemorizationFilter(1.0)]).filters == ()
    mixed, seeing = Ladder(strategies(("condition", "final-latent-encoder"))), MockFilter(False)
    seeing.encoder = FakeEncoder()
    with pytest.raises(ConfigError, match="every filter sees by 'fake'"):
        Guard(pipe, [seeing], encoder=FakeEncoder(), ladder=mixed)
