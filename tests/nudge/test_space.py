"""The judge is never what was optimised, and a preview serves an encoder as pixels do."""

from __future__ import annotations

import pytest
import torch

from steerclear import CodeGuard, Guard
from steerclear.errors import ConfigError
from steerclear.filters import NearestFilter, PixelFilter
from steerclear.filters.pixel import AllPictures, NearestPictures
from steerclear.generators import GanGenerator
from steerclear.library.search import Index
from steerclear.nudge.ladder import Ladder, strategies
from steerclear.nudge.space import EncoderSpace
from steerclear.pixels import fit, to_tensor
from steerclear.protected import Protected
from steerclear.testing import FakeEncoder, MockFilter, tiny_pipeline

ENCODER = FakeEncoder()
PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
NEAREST = NearestFilter(ENCODER, Index(("a", "b"), ENCODER(PICTURES)), -1.0)
STEERING = Ladder(strategies(("final-latent-encoder", "trajectory-encoder")))


def nominated():
    return PixelFilter(NearestPictures(ENCODER, NEAREST.index, {"a": PICTURES[0], "b": PICTURES[1]}))


def guard(filters, ladder=STEERING, encoder=ENCODER, strict=()):
    pipe = tiny_pipeline()
    protected = Protected(pipe, dict(zip("ab", PICTURES, strict=True)))
    return Guard(pipe, filters, protected=protected, ladder=ladder, encoder=encoder, strict=strict)


def code_guard(filters, encoder=ENCODER, strict=()):
    return CodeGuard(GanGenerator(lambda code: code, (3, 64, 64)), filters, encoder=encoder, strict=strict)


GUARDS = pytest.mark.parametrize("guarded_by", [guard, code_guard])
OTHER_EYES = [
    PixelFilter(AllPictures(("a", "b"), PICTURES)),
    PixelFilter(
        NearestPictures(FakeEncoder(name="other"), NEAREST.index, {"a": PICTURES[0], "b": PICTURES[1]})
    ),
    NearestFilter(FakeEncoder(name="other"), NEAREST.index, 0.9),
    MockFilter(),
]


@GUARDS
@pytest.mark.parametrize("others", [(), (nominated(),), (NearestFilter(ENCODER, NEAREST.index, 0.99),)])
def test_no_guard_steers_in_the_space_of_the_encoder_that_alone_judges(guarded_by, others):
    for filters, strict in (((NEAREST, *others), ()), ((NEAREST,), others)):
        with pytest.raises(
            ConfigError, match=r"every filter sees by 'fake'.* add a filter of another encoder"
        ):
            guarded_by(filters, strict=strict)


@GUARDS
@pytest.mark.parametrize("other", OTHER_EYES)
def test_one_filter_that_sees_otherwise_is_enough_for_any_guard(guarded_by, other):
    assert guarded_by([NEAREST, other]).filters == (NEAREST, other)
    assert guarded_by([other, NEAREST]).filters == (other, NEAREST)
    assert guarded_by([NEAREST], strict=[other]).strict == (other,)


@GUARDS
def test_no_guard_steers_by_an_encoder_without_gradients(guarded_by):
    blind = FakeEncoder(name="blind")
    blind.differentiable = False
    with pytest.raises(
        ConfigError, match="no gradient passes the encoder 'blind'; steer by a differentiable"
    ):
        guarded_by([MockFilter()], encoder=blind)


def test_a_guard_that_steers_in_no_encoders_space_may_judge_by_any_one_encoder():
    assert guard([NEAREST], Ladder(strategies(("condition",)))).filters == (NEAREST,)
    assert guard([NEAREST], encoder=None).filters == (NEAREST,)
    assert code_guard([NEAREST], encoder=None).filters == (NEAREST,)


def test_a_guard_refuses_such_a_configuration_at_once_and_any_ladder_that_is_set_later():
    with pytest.raises(ConfigError, match="every filter sees by"):
        guard([NEAREST])
    late = guard([NEAREST], Ladder(strategies(("condition",))))
    late.ladder = STEERING
    (report,) = late("a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).reports
    assert report.outcome == "withheld"
    assert all("every filter sees by" in attempt.stopped for attempt in report.attempts)


def test_a_guard_whose_pixels_confirm_steers_in_the_encoders_space():
    def ask():
        return {"num_inference_steps": 4, "generator": torch.Generator().manual_seed(0)}

    pipe = tiny_pipeline()
    copy = to_tensor(pipe("a fox", **ask()).images)
    nearest = NearestFilter(ENCODER, Index(("a",), ENCODER(fit(copy, ENCODER.size))), 0.9999)
    filters = [nearest, PixelFilter(AllPictures(("a",), copy), 0.999)]
    protected = Protected(pipe, {"a": copy[0]})

    def report(strategy):
        ladder = Ladder(strategies((strategy,)))
        steering = Guard(pipe, filters, protected=protected, ladder=ladder, encoder=ENCODER)
        return steering("a fox", **ask()).reports[0]

    steered = report("final-latent-encoder")
    assert [(d.filter, d.flagged) for d in steered.detections] == [("nearest", True), ("pixel", True)]
    assert [(d.filter, d.flagged) for d in steered.final_detections] == [("nearest", False), ("pixel", False)]
    assert steered.outcome == "steered"
    assert steered.similarity_before == pytest.approx(1)
    assert steered.similarity_after < report("final-latent").similarity_after - 0.01


@pytest.mark.slow
def test_on_the_embedded_model_an_encoder_sees_the_same_item_in_a_preview_as_in_the_pixels():
    from steerclear import Guard
    from steerclear.pipelines import latent_like

    embedded = Guard.default()
    ids = tuple(embedded.protected.pictures)
    latents = embedded.protected.latents(ids, latent_like(embedded.pipe))
    preview, pixels = embedded._space(None, "preview"), embedded._space(None, "decode")
    assert isinstance(preview, EncoderSpace)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        likeness = preview(latents) @ preview(latents + 0.1 * noise).T
        decoded = pixels(latents) @ pixels(latents).T
    assert (likeness.argmax(1) == torch.arange(len(ids))).float().mean() > 0.9
    assert (decoded.argmax(1) == torch.arange(len(ids))).all()
