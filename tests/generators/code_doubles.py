"""A tiny random network of a GAN's shape, a linear VAE, and a filter that flags one picture."""

import torch
from torch import nn

from steerclear.filters.pixel import AllPictures, PixelFilter
from steerclear.pixels import to_tensor

CODE = 12


def tiny_module(seed=0):
    """(B, 12) → (B, 3, 8, 8) in [−1, 1]."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Linear(CODE, 48), nn.Tanh(), nn.Linear(48, 192), nn.Tanh(), nn.Unflatten(1, (3, 8, 8))
        )
        nn.init.normal_(module[2].weight, std=0.3)
    return module.eval()


class LinearEncoder(nn.Module):
    """(B, 3, 8, 8) → (B, 12), fitted to invert a module by least squares."""

    def __init__(self, module):
        super().__init__()
        codes = torch.randn(2000, CODE, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            solution = torch.linalg.lstsq(module(codes).flatten(1), codes).solution
        self.register_buffer("solution", solution)

    def forward(self, images):
        return images.flatten(1) @ self.solution


def near(image, threshold=0.9):
    """A pixel filter that protects this picture as `item`, and the mapping of pictures that holds it."""
    pixels = to_tensor([image])
    return PixelFilter(AllPictures(("item",), pixels), threshold), {"item": pixels[0]}
