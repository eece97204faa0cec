"""Toy denoisers whose outputs are known by hand, in place of a tiny pipeline's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from steerclear.testing import FakeEncoder, tiny_pipeline
from steerclear_lab.bench.baselines import Context, References


class Toy(torch.nn.Module):
    """Predicts ε = prompt · direction + slope · prompt · x.

    Here prompt is the mean of the tokens' first feature.
    """

    def __init__(self, direction: float = 0.0, slope: float = 0.0) -> None:
        super().__init__()
        self.direction, self.slope = direction, slope
        self.config = SimpleNamespace(sample_size=8, in_channels=4, out_channels=4, time_cond_proj_dim=None)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(
        self, rows: Tensor, t: Tensor, encoder_hidden_states: Tensor, return_dict: bool = False
    ) -> tuple[Tensor]:
        prompt = encoder_hidden_states[:, :, 0].mean(1)[:, None, None, None]
        return (prompt * (self.direction + self.slope * rows),)


def toy(direction: float = 0.0, slope: float = 0.0, **settings: Any) -> Context:
    """A tiny pipeline that draws with a Toy: Δ = (prompt − empty) · (direction + slope · x)."""
    pipe = tiny_pipeline("sd1")
    pipe.unet = Toy(direction, slope)
    return Context(pipe, **{"steps": 4, "guidance": 3.0, **settings})


def prompt_value(embeds: Tensor) -> float:
    """The number that a Toy reads from an embedding."""
    return float(embeds[:, :, 0].mean())


def references(context: Context, threshold: float = 0.5) -> References:
    """Two protected latents, seen by a fake descriptor."""
    encoder = FakeEncoder(name="descriptor")
    latents = torch.randn(2, *context.denoiser.shape[1:], generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        pixels = context.denoiser.pixels(latents)
        embeddings = encoder((pixels / 2 + 0.5).clamp(0, 1))
    return References(
        ids=("fox", "owl"),
        captions=("the acme fox", "the brim owl"),
        latents=latents,
        encoder=encoder,
        embeddings=embeddings,
        threshold=threshold,
    )
