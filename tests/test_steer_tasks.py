"""What a guard tells its strategies of the image that was flagged is that image's own."""

from __future__ import annotations

import pytest
import torch

from guard_doubles import (
    FAST,
    Watching,
    colour,
    only,
)
from steerclear.errors import UnsupportedError
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.pixels import to_tensor
from steerclear.protected import Protected
from steerclear.steering import derive, generators
from steerclear.testing import FakeEncoder, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Detection, Outcome


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


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
