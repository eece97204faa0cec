"""The judge's network: a small residual network with batch normalisation, as SSCD's ResNet has."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64  # pixels of the pictures that it sees
WIDTHS = (32, 64, 128)
DIM = 128


class JudgeNetwork(nn.Module):
    """Residual stages at 32, 16 and 8 pixels, generalised-mean pooling, a linear map, unit length."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                _Block(width),
            ]
            before = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(before, DIM)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images (B, 3, 64, 64) in [0, 1] as (B, 128), each row of unit length."""
        features = self.layers(images * 2 - 1)
        pooled = features.float().clamp(min=1e-3).pow(3).mean(dim=(2, 3)).pow(1 / 3)
        return F.normalize(self.head(pooled).float(), dim=-1)


class _Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


def save(network: JudgeNetwork, file: Path) -> None:
    """Write the weights in float16."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    state = {name: weight.half().contiguous() for name, weight in network.state_dict().items()}
    save_file(state, file)


def load(file: Path) -> JudgeNetwork:
    """Load a network in float32, for inference."""
    from safetensors.torch import load_file

    network = JudgeNetwork()
    state = network.state_dict()
    network.load_state_dict({name: w.to(state[name].dtype) for name, w in load_file(file).items()})
    return network.to(torch.float32).eval().requires_grad_(False)
