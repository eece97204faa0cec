"""The public test doubles keep their own promises."""

import math
import time

import pytest
import torch

from steerclear.errors import InputError
from steerclear.testing import FAMILIES, FakeEncoder, MockFilter, tiny_pipeline
from steerclear.types import Detection


def images(count=2):
    return torch.rand(count, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def test_the_fake_encoder_is_deterministic_unit_length_and_differentiable():
    pixels = images().requires_grad_()
    embedding = FakeEncoder()(pixels)
    assert embedding.shape == (2, 16)
    assert torch.equal(embedding, FakeEncoder()(pixels))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    embedding[:, 0].sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_two_names_are_two_spaces():
    encoder, other = FakeEncoder(), FakeEncoder(name="other")
    assert encoder.fingerprint != other.fingerprint
    assert encoder.fingerprint == FakeEncoder().fingerprint
    assert not torch.allclose(encoder(images()), other(images()))


def test_near_images_lie_near_and_grey_has_a_direction():
    encoder, pixels = FakeEncoder(), images()
    near = (encoder(pixels) * encoder((pixels + 0.01).clamp(0, 1))).sum(1)
    apart = encoder(pixels)[0] @ encoder(pixels)[1]
    assert near.min() > 0.9 > apart
    assert encoder(torch.full((1, 3, 8, 8), 0.5)).norm() == pytest.approx(1)


def test_the_mock_filter_answers_in_order_and_remembers():
    mock = MockFilter([True, 0.2, 0.7])
    first, second = mock.check(images()), mock.check(images())
    assert [d.flagged for d in first + second] == [True, False, True, True]
    assert first[1] == Detection("mock", flagged=False, score=0.2, threshold=0.5)
    assert mock.count == 4
    assert torch.equal(mock.calls[0], images())


def test_the_mock_filter_can_look_fail_and_give_no_number():
    dark = MockFilter(lambda image: float(1 - image.mean()), name="dark", threshold=0.9)
    assert [d.flagged for d in dark.check(torch.zeros(1, 3, 4, 4))] == [True]
    assert [d.flagged for d in dark.check(torch.ones(1, 3, 4, 4))] == [False]
    (unsure,) = MockFilter(math.nan).check(images(1))
    assert unsure.flagged
    with pytest.raises(RuntimeError, match="broken"):
        MockFilter(RuntimeError("broken")).check(images(1))
    whole = Detection("other", flagged=True, score=0.1, threshold=0.0, matched="item")
    assert MockFilter(whole).check(images(1)) == [whole]


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, third = tiny_pipeline("sd1"), tiny_pipeline("sd1"), tiny_pipeline("sd1", seed=1)
    assert torch.equal(before, torch.get_rng_state())
    weights = [pipe.unet.conv_in.weight for pipe in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_scheduler_comes_by_name_or_as_an_object():
    from diffusers import DDPMScheduler

    assert type(tiny_pipeline("sd1", "PNDMScheduler").scheduler).__name__ == "PNDMScheduler"
    scheduler = DDPMScheduler()
    assert tiny_pipeline("sd1", scheduler).scheduler is scheduler


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_of_any_family_is_built_in_under_three_seconds(family):
    tiny_pipeline(family)  # what it takes to import diffusers' module is not its own
    began = time.process_time()
    tiny_pipeline(family)
    assert time.process_time() - began < 3


def test_unknown_families_and_schedulers_are_named():
    with pytest.raises(InputError, match="no tiny pipeline of family 'sd9'"):
        tiny_pipeline("sd9")
    with pytest.raises(InputError, match="no scheduler 'Nothing'"):
        tiny_pipeline("sd1", "Nothing")


def test_two_prompts_give_two_pictures():
    pipe = tiny_pipeline("sd1")

    def draw(prompt):
        generator = torch.Generator().manual_seed(0)
        return pipe(prompt, num_inference_steps=2, output_type="latent", generator=generator).images

    assert not torch.equal(draw("a fox"), draw("a boat"))
