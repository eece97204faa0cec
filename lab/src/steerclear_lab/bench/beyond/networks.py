"""The networks of the beyond-diffusion benchmark: one decoder shape for both generators, and an encoder."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

CODE = 16  # numbers in a code; few, so that random codes fall where training codes were
SIZE = 64


class Decoder(nn.Module):
    """Codes (B, CODE) → images (B, 3, 64, 64) in [−1, 1]: a linear map, three doublings, a pixel shuffle."""

    def __init__(self, widths: tuple[int, ...] = (128, 96, 64, 48)) -> None:
        super().__init__()
        self.widths = widths
        self.first = nn.Linear(CODE, widths[0] * 16)
        self.rises = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(before, after, 3, padding=1),
                nn.GroupNorm(8, after),
                nn.SiLU(),
            )
            for before, after in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], 12, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """The images of codes."""
        hidden = F.silu(self.first(codes)).view(len(codes), self.widths[0], 4, 4)
        for rise in self.rises:
            hidden = rise(hidden)
        images: Tensor = F.pixel_shuffle(self.last(hidden), 2).tanh()
        return images


class Encoder(nn.Module):
    """Images (B, 3, 64, 64) in [−1, 1] → mean and log-variance of their codes, (B, CODE) each."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((3, *widths)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, 2 * CODE))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of images."""
        mean, logvar = self.layers(images).chunk(2, dim=1)
        return mean, logvar.clamp(-10, 2)


class Vae(nn.Module):
    """Encoder and decoder (Kingma & Welling 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
