"""Codecs against the pipelines' own last lines: same latent, same pixels."""

import functools
from types import SimpleNamespace

import pytest
import torch

from steerclear.errors import InputError, UnsupportedError
from steerclear.steering import codec_for, steer
from steerclear.testing import FAMILIES, tiny_call, tiny_pipeline


@functools.cache
def pipeline(family):
    """One of each family, for tests that change nothing about it."""
    return tiny_pipeline(family)


def final_latent_and_image(pipe, family, **kwargs):
    """What the scheduler made last, and what the pipeline hands out as a tensor."""
    kept = []
    with steer(pipe, after_step=lambda step, prev: kept.append(prev)):
        images = pipe(
            **{**tiny_call(family, steps=2), **kwargs},
            output_type="pt",
            generator=torch.Generator().manual_seed(0),
        ).images
    return kept[-1], shown(pipe, images)


def shown(pipe, images):
    """Kandinsky leaves a tensor in [-1, 1], and shows what its other outputs show only there."""
    return (images * 0.5 + 0.5).clamp(0, 1) if hasattr(pipe, "movq") else images


# inpainting puts back what it keeps after the scheduler's last step
@pytest.mark.parametrize("family", [family for family in FAMILIES if not family.endswith("-inpaint")])
def test_decode_gives_what_the_pipeline_gives(family):
    pipe = pipeline(family)
    latents, images = final_latent_and_image(pipe, family)
    with torch.no_grad():
        decoded = codec_for(pipe).decode(latents[: len(images)])
    assert decoded.shape == images.shape
    torch.testing.assert_close(decoded, images, rtol=1e-5, atol=1e-5)


# DiT has no latent output, FLUX.2 klein's is already unpacked and denormalised
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("dit", "flux2")])
def test_the_pipelines_own_latent_decodes_to_its_image(family):
    pipe = pipeline(family)
    call = tiny_call(family, steps=2)
    latents = pipe(**call, output_type="latent", generator=torch.Generator().manual_seed(0)).images
    images = shown(pipe, pipe(**call, output_type="pt", generator=torch.Generator().manual_seed(0)).images)
    with torch.no_grad():
        torch.testing.assert_close(codec_for(pipe).decode(latents), images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_encode_makes_latents_that_the_scheduler_takes_and_gradients_pass_both_ways(family):
    pipe = pipeline(family)
    seen, _ = final_latent_and_image(pipe, family)
    codec = codec_for(pipe)
    side = tiny_call(family).get("height", 64)
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    latents = codec.encode(pixels)
    assert latents.shape == seen[:1].shape
    image = codec.decode(latents)
    assert image.shape == pixels.shape
    assert image.min() >= 0
    assert image.max() <= 1
    image.square().sum().backward()
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize("family", ["sd1", "sd3", "flux"])
def test_encode_undoes_the_scale_and_shift_of_decode(family):
    """With an autoencoder that does nothing, the way there and back is the identity."""
    pipe = tiny_pipeline(family)
    codec = codec_for(pipe)

    class Identity:
        dtype = torch.float32

        def decode(self, latents, return_dict=True):
            return (latents,)

        encode = decode

    codec.autoencoder = Identity()
    images = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(codec.decode(codec.encode(images)), images, rtol=1e-5, atol=1e-5)


def test_a_packed_latent_that_is_not_square_needs_its_size():
    pipe = tiny_pipeline("flux")
    latents, images = final_latent_and_image(pipe, "flux", height=64, width=128)
    with torch.no_grad():
        decoded = codec_for(pipe, height=64, width=128).decode(latents)
        torch.testing.assert_close(decoded, images, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="32 packed tokens do not make a square image"):
        codec_for(pipe).decode(latents)
    with pytest.raises(InputError, match="64×64"):
        codec_for(pipe, height=64, width=64).decode(latents)
    with pytest.raises(InputError, match="codec_for needs both"):
        codec_for(pipe, height=64)


def test_a_fine_tuned_sdxl_with_latent_statistics_is_followed():
    pipe = tiny_pipeline("sdxl")
    pipe.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[2.0, 3.0, 4.0, 5.0])
    latents, images = final_latent_and_image(pipe, "sdxl")
    with torch.no_grad():
        torch.testing.assert_close(codec_for(pipe).decode(latents), images, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient():
    pipe = tiny_pipeline("sd1")
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for flag in (False, True):
        latents = start.clone().requires_grad_()
        codec_for(pipe, gradient_checkpointing=flag).decode(latents).square().sum().backward()
        gradients.append(latents.grad)
    torch.testing.assert_close(*gradients)
    with pytest.raises(UnsupportedError, match="AutoencoderDC"):
        codec_for(tiny_pipeline("sana"), gradient_checkpointing=True)


def test_an_autoencoder_that_overflows_in_half_precision_is_copied_not_changed():
    pipe = tiny_pipeline("sdxl")
    pipe.vae.half()
    image = codec_for(pipe).decode(torch.randn(1, 4, 8, 8).half())
    assert image.dtype == torch.float32
    assert pipe.vae.dtype == torch.float16


def test_video_and_unknown_pipelines_are_refused_by_name():
    from diffusers import LTXPipeline

    for stranger in (object.__new__(LTXPipeline), SimpleNamespace(scheduler=None)):
        with pytest.raises(UnsupportedError, match=type(stranger).__name__):
            codec_for(stranger)


def test_an_autoencoder_without_a_known_formula_is_refused():
    pipe = tiny_pipeline("sd1")
    pipe.vae = tiny_pipeline("kandinsky3").movq
    with pytest.raises(UnsupportedError, match="VQModel"):
        codec_for(pipe)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_tiny_autoencoder_in_the_place_of_the_familys_decodes_as_the_pipeline_does(family):
    from diffusers import AutoencoderTiny

    pipe = tiny_pipeline(family)
    torch.manual_seed(0)
    blocks = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    pipe.vae = AutoencoderTiny(**blocks, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4).eval()
    latents, images = final_latent_and_image(pipe, family)
    codec = codec_for(pipe)
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(latents), images, rtol=1e-5, atol=1e-5)
        assert codec.encode(images).shape == latents.shape
