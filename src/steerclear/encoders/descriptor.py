"""The copy descriptor: a small convolutional network in the manner of SSCD (Pizzi et al., CVPR 2022)."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from steerclear.errors import EncoderError


class DescriptorNetwork(nn.Module):
    """Residual stages, generalised-mean pooling, a linear map, unit length: a network for copy detection.

    Args:
        widths: channels of each stage.
        dim: width of the embedding.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 192), dim: int = 128) -> None:
        super().__init__()
        self.widths, self.dim = tuple(widths), dim
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2)
        blocks: list[nn.Module] = []
        for before, after in zip(widths, (*widths[1:], widths[-1]), strict=True):
            stride = 2 if after != before else 1
            blocks += [_Block(before), nn.Conv2d(before, after, 3, stride=stride, padding=1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images (B, 3, S, S) in [0, 1] as (B, dim), each row of unit length."""
        features = self.blocks(self.stem(images * 2 - 1))
        # the lower bound keeps the cube root differentiable where a feature is zero everywhere
        pooled = F.softplus(features).clamp(min=1e-4).pow(3).mean(dim=(2, 3)).pow(1 / 3)
        return F.normalize(self.head(pooled), dim=-1)


class _Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]


def save(network: DescriptorNetwork, size: int, folder: Path) -> None:
    """Writes a network as `config.json` and float16 `model.safetensors`.

    Args:
        network: the trained network.
        size: the side in pixels of the images that it expects.
        folder: made if it does not exist.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architecture": "steerclear.DescriptorNetwork",
        "widths": list(network.widths),
        "dim": network.dim,
        "size": size,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    state = {name: weight.half().contiguous() for name, weight in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def load(folder: Path) -> tuple[DescriptorNetwork, int]:
    """Loads a network in float32, for inference.

    Returns:
        The network, and the side in pixels of the images that it expects.

    Raises:
        EncoderError: if there is no usable one in the folder.
    """
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "config.json").read_text())
        state = load_file(folder / "model.safetensors")
        network = DescriptorNetwork(tuple(config["widths"]), config["dim"])
        network.load_state_dict({name: weight.float() for name, weight in state.items()})
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise EncoderError(
            f"no usable copy descriptor in {folder}: {error}; train it again or reinstall"
        ) from error
    return network.eval().requires_grad_(False), int(config["size"])
