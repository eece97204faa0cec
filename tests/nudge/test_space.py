"""The judge is never what was optimised, and a preview serves an encoder as pixels do."""

from __future__ import annotations

import pytest
import torch

from steerclear import Guard
from steerclear.errors import ConfigError
from steerclear.filters import NearestFilter, PixelFilter, flagged
from steerclear.filters.pixel import AllPictures, NearestPictures
from steerclear.library.search import Index
from steerclear.nudge.ladder import Ladder, strategies
from steerclear.nudge.space import EncoderSpace, check_judges
from steerclear.protected import Protected
from steerclear.testing import FakeEncoder, MockFilter, tiny_pipeline

ENCODER = FakeEncoder()
PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
NEAREST = NearestFilter(ENCODER, Index(("a", "b"), ENCODER(PICTURES)), -1.0)
STEERING = Ladder(strategies(("final-latent-encoder", "trajectory-encoder")))


def nominated():
    return PixelFilter(NearestPictures(ENCODER, NEAREST.index, {"a": PICTURES[0], "b": PICTURES[1]}))


@pytest.mark.parametrize("others", [(), (nominated(),)])
def test_an_encoder_that_alone_judges_is_not_steered_by(others):
    with pytest.raises(ConfigError, match="every filter sees by 'fake'"):
        check_judges(ENCODER, (NEAREST, *others))


@pytest.mark.parametrize(
    "other",
    [
        PixelFilter(AllPictures(("a", "b"), PICTURES)),
        NearestFilter(FakeEncoder(name="other"), NEAREST.index, 0.9),
        MockFilter(),
    ],
)
def test_one_filter_that_sees_otherwise_is_enough(other):
    check_judges(ENCODER, (NEAREST, other))


def test_an_encoder_without_gradients_is_refused():
    blind = FakeEncoder(name="blind")
    blind.differentiable = False
    with pytest.raises(ConfigError, match="blind"):
        check_judges(blind, (MockFilter(),))


def guard(filters, ladder=STEERING):
    pipe = tiny_pipeline()
    protected = Protected(pipe, dict(zip("ab", PICTURES, strict=True)))
    return Guard(pipe, filters, protected=protected, ladder=ladder, encoder=ENCODER)


def test_a_guard_refuses_such_a_configuration_at_once_and_any_ladder_that_is_set_later():
    with pytest.raises(ConfigError, match="every filter sees by"):
        guard([NEAREST])
    late = guard([NEAREST], Ladder(strategies(("condition",))))
    late.ladder = STEERING
    (report,) = late("a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).reports
    assert report.outcome == "withheld"
    assert all("every filter sees by" in attempt.stopped for attempt in report.attempts)


def test_a_guard_whose_pixels_confirm_steers_in_the_encoders_space():
    always = MockFilter(True)
    (report,) = guard([NEAREST, always])(
        "a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(0)
    ).reports
    assert [len(attempt.after) for attempt in report.attempts] == [1, 1]
    assert flagged(report.final_detections)


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
