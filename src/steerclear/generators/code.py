"""Step 1 of a request to a GAN or a VAE: draw codes, run the model on them, count its evaluations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from steerclear.errors import ConfigError, UnsupportedError
from steerclear.pixels import to_image

Module = Callable[[Tensor], Tensor]
"""A network, or any function, from one batch of tensors to another."""


class CodeGenerator:
    """A model that turns codes into images, in one evaluation.

    Args:
        module: codes (B, …) → images (B, 3, H, W), or (B, 1, H, W) for grey; in evaluation mode, and without
            randomness of its own.
        latent_shape: shape of one code's noise, without the batch.
        value_range: the module's output values for black and for white.

    Attributes:
        evaluations: how many rows the module has evaluated; a backward pass counts two more.
        lock: held for a whole request, so that requests do not mix in the count.

    Raises:
        ConfigError: for a module in training mode, whose images would depend on their batch, or an empty
            value range.
    """

    def __init__(
        self, module: Module, latent_shape: Sequence[int], value_range: tuple[float, float] = (-1.0, 1.0)
    ) -> None:
        if isinstance(module, nn.Module) and module.training:
            raise ConfigError(
                f"{type(module).__name__} is in training mode, where images may depend on their batch; "
                "call .eval()"
            )
        if not value_range[0] < value_range[1]:
            raise ConfigError(f"value_range {value_range} is empty; give (black, white), such as (-1, 1)")
        self.module = module
        self.latent_shape = tuple(latent_shape)
        self.value_range = value_range
        self.evaluations = 0
        self.lock = threading.RLock()

    def noise(self, count: int, generator: torch.Generator | list[torch.Generator]) -> Tensor:
        """Draw noise from N(0, I).

        Args:
            count: number of rows.
            generator: draws all rows together; a list holds one generator per row.

        Returns:
            (count, …) on the module's device and in its type.
        """
        if isinstance(generator, list):
            return torch.cat([self.noise(1, row_generator) for row_generator in generator])
        noise = torch.randn((count, *self.latent_shape), generator=generator, device=generator.device)
        parameter = next(self.module.parameters(), None) if isinstance(self.module, nn.Module) else None
        return noise if parameter is None else noise.to(parameter)

    def code(self, noise: Tensor) -> Tensor:
        """The code (B, …) that the module takes, made of noise (B, …): here the noise itself."""
        return noise

    def encode(self, pixels: Tensor) -> Tensor:
        """The codes (B, …) of pictures (B, 3, H, W) in [0, 1].

        Raises:
            UnsupportedError: where there is no encoder.
        """
        raise UnsupportedError(f"{type(self).__name__} cannot encode pictures: it was given no encoder")

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder."""
        return False

    def pixels(self, code: Tensor) -> Tensor:
        """Run the module on codes (B, …).

        Returns:
            (B, 3, H, W), black 0 and white 1; not clamped, so that gradients pass.

        Raises:
            ConfigError: for a module output of another shape.
        """
        self.evaluations += len(code) * (3 if torch.is_grad_enabled() and code.requires_grad else 1)
        output = self.module(code)
        if output.ndim != 4 or len(output) != len(code) or output.shape[1] not in (1, 3):
            raise ConfigError(
                f"the module made {tuple(output.shape)} of {len(code)} codes; it must make (B, 3, H, W) or "
                "(B, 1, H, W)"
            )
        low, high = self.value_range
        return ((output - low) / (high - low)).expand(-1, 3, -1, -1)

    @torch.no_grad()
    def pictures(self, code: Tensor) -> list[Image.Image | None]:
        """One picture per code (B, …), as it would be handed out; None where a pixel is not finite."""
        pixels = self.pixels(code)
        finite = pixels.isfinite().flatten(1).all(dim=1).tolist()
        return [to_image(row) if ok else None for row, ok in zip(pixels.clamp(0, 1), finite, strict=True)]
