"""The networks of the beyond-diffusion benchmark: one decoder shape for both generators, an encoder, and a critic."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steerclear.encoders.descriptor import DescriptorNetwork

CODE = 32  # numbers in a code; few, so that random codes fall where training has been
SIZE = 64


class Decoder(nn.Module):
    """Codes (B, CODE) → images (B, 3, 64, 64) in [−1, 1]: a linear map to 4 × 4, three doublings, a pixel shuffle."""

    def __init__(self, widths: tuple[int, ...] = (128, 96, 64, 48)) -> None:
        super().__init__()
        self.widths = widths
        self.first = nn.Linear(CODE, widths[0] * 16)
        self.rises = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=1),
                nn.GroupNorm(8, after), nn.SiLU(),
            )
            for before, after in zip(widths, widths[1:], strict=False)
        )  # fmt: skip
        self.last = nn.Conv2d(widths[-1], 12, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        hidden = F.silu(self.first(codes)).view(len(codes), self.widths[0], 4, 4)
        for rise in self.rises:
            hidden = rise(hidden)
        return F.pixel_shuffle(self.last(hidden), 2).tanh()


class Encoder(nn.Module):
    """Images (B, 3, 64, 64) in [−1, 1] → mean and log-variance of their codes, (B, CODE) each."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, 2 * CODE))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.layers(images).chunk(2, dim=1)
        return mean, logvar.clamp(-10, 2)


class Vae(nn.Module):
    """Encoder and decoder (Kingma & Welling 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()


class Critic(nn.Module):
    """Real or generated? Small heads on the frozen features of a copy descriptor (Projected GANs, Sauer et al. 2021).

    Features that are there from the start spare the critic most of its training, which one core could not pay for.
    """

    def __init__(self, features: DescriptorNetwork) -> None:
        super().__init__()
        self._features = [features]  # in a list, so that its weights are neither trained nor saved here
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.SiLU(), nn.Conv2d(64, 1, 3, padding=1)
            )
            for width in (*features.widths, features.widths[-1])
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, 64, 64) in [−1, 1]. Returns (B,), larger for what looks real."""
        network = self._features[0]
        hidden = network.stem(images)
        verdicts = [self.heads[0](hidden)]
        for level, (block, stride) in enumerate(
            zip(network.blocks[::2], network.blocks[1::2], strict=True), start=1
        ):
            hidden = stride(block(hidden))
            verdicts.append(self.heads[level](hidden))
        return torch.stack([verdict.mean(dim=(1, 2, 3)) for verdict in verdicts]).sum(0)


class Gan(nn.Module):
    """Generator and critic, trained side by side."""

    def __init__(self, features: DescriptorNetwork) -> None:
        super().__init__()
        self.generator, self.critic = Decoder(), Critic(features)
