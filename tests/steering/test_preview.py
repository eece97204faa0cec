"""A preview is near the true decode on pictures that it was not fitted to, and it is linear."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from steerclear.embedded import LIBRARY_FOLDER, MODEL_FOLDER
from steerclear.errors import ConfigError, InputError, UnsupportedError
from steerclear.library import Library
from steerclear.pipelines import load_pipeline
from steerclear.steering import codec_for, fit_preview, preview_for
from steerclear.testing import tiny_pipeline
from steerclear_lab.assets import ASSETS


@pytest.fixture(scope="module")
def embedded():
    return load_pipeline(MODEL_FOLDER)


@pytest.fixture(scope="module")
def protected():
    return torch.stack(list(Library.open(LIBRARY_FOLDER).pictures().values()))


def ordinary(count=32):
    """Pictures that nothing here was fitted to, out of the sheet of ordinary ones."""
    with Image.open(ASSETS / "ordinary.png") as sheet:
        pixels = torch.from_numpy(np.asarray(sheet.convert("RGB"), dtype=np.float32) / 255)
    tiles = pixels.unfold(0, 64, 64).unfold(1, 64, 64).reshape(-1, 3, 64, 64)
    return tiles[:: len(tiles) // count][:count]


def random_images(count=4, height=64, width=64):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("neighbourhood", "at_most"), [(1, 0.14), (3, 0.11)])
def test_it_is_near_the_true_decode_of_pictures_that_it_was_not_fitted_to(
    embedded, protected, neighbourhood, at_most
):
    preview = fit_preview(embedded, protected, neighbourhood)
    codec = codec_for(embedded)
    with torch.no_grad():
        latents = codec.encode(ordinary())
        true = F.adaptive_avg_pool2d(codec.decode(latents), latents.shape[-2:])
        seen = preview(latents)
    error = (seen - true).square().mean().sqrt()
    one_colour = (true - true.mean(dim=(0, 2, 3), keepdim=True)).square().mean().sqrt()
    assert error < at_most < 0.6 * one_colour


def test_its_gradient_is_the_fitted_matrix(embedded, protected):
    preview = fit_preview(embedded, protected)
    latents = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for colour in range(3):
        (gradient,) = torch.autograd.grad(preview(latents)[0, colour, 5, 7], latents)
        torch.testing.assert_close(gradient[0, :, 5, 7], preview.weight[colour, :, 0, 0])
        gradient[0, :, 5, 7] = 0
        assert not gradient.any()


def test_a_neighbourhood_sees_what_lies_around_and_no_farther(embedded, protected):
    preview = fit_preview(embedded, protected, 3)
    latents = torch.zeros(1, 8, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(preview(latents)[0, 1, 5, 7], latents)
    torch.testing.assert_close(gradient[0, :, 4:7, 6:9], preview.weight[1])
    gradient[0, :, 4:7, 6:9] = 0
    assert not gradient.any()


@pytest.mark.parametrize(
    ("family", "side"), [("flux", 8), ("flux2", 4), ("qwen", 8), ("sana", 2), ("sd1", 8)]
)
@pytest.mark.parametrize("neighbourhood", [1, 3])
def test_packed_latents_are_laid_out_and_the_fit_is_what_it_says(family, side, neighbourhood):
    pipe = tiny_pipeline(family)
    images = random_images(40)  # more pixels than a neighbourhood of FLUX.2's channels has unknowns
    preview = fit_preview(pipe, images, neighbourhood)
    codec = codec_for(pipe)
    with torch.no_grad():
        latents = codec.encode(images)
        seen = preview(latents)
        true = F.adaptive_avg_pool2d(codec.decode(latents), seen.shape[-2:])
    assert seen.shape == (40, 3, side, side)
    assert float((seen - true).square().mean().sqrt()) == pytest.approx(preview.rmse, rel=1e-2)


def test_a_packed_latent_that_is_not_square_needs_its_size():
    pipe = tiny_pipeline("flux")
    images = random_images(height=64, width=128)
    preview = fit_preview(pipe, images, size=(64, 128))
    with torch.no_grad():
        latents = codec_for(pipe, 64, 128).encode(images)
    assert preview(latents, (64, 128)).shape == (4, 3, 8, 16)
    with pytest.raises(InputError, match="32 packed tokens"):
        preview(latents)


def test_a_pipeline_is_fitted_once():
    pipe = tiny_pipeline("sd1")
    first = preview_for(pipe, random_images())
    assert preview_for(pipe, random_images(2)) is first
    assert preview_for(pipe, random_images(), 3) is not first
    pipe.vae = tiny_pipeline("sd1", seed=1).vae
    assert preview_for(pipe, random_images()) is not first


def test_what_it_cannot_be_fitted_to_is_named():
    pipe = tiny_pipeline("sd1")
    with pytest.raises(ConfigError, match="neighbourhood of 2"):
        fit_preview(pipe, random_images(), 2)
    with pytest.raises(InputError, match=r"\(4, 64, 64\)"):
        fit_preview(pipe, torch.rand(4, 64, 64))
    pipe.vae = None
    with pytest.raises(UnsupportedError, match="no autoencoder"):
        preview_for(pipe, random_images())
