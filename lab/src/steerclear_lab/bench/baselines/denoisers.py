"""What differs between pipelines for a method of the comparison: how a prompt becomes a condition, and a latent an output.

Each is its pipeline's own loop, line by line, so that a method that changes nothing gives the plain pipeline's picture bit for
bit. A condition is one tensor (1, L, D) whatever the pipeline, so that methods can mix, move and optimise it alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.passes import class_called

NULL_CLASS = 1000  # DiTPipeline's, whatever the model


class OfUNet:
    """StableDiffusionPipeline: the condition is the text embedding, the first row that of the start token.

    extra: further arguments of the pipeline's call.
    """

    def __init__(self, pipe: Any, extra: Mapping[str, Any]) -> None:
        self.pipe, self.extra = pipe, dict(extra)

    @property
    def network(self) -> Any:
        return self.pipe.unet

    @property
    def cross_attending(self) -> Any:
        """The network, for what acts on cross-attentions. Raises UnsupportedError where it has none."""
        return self.network

    @property
    def tokenizer(self) -> Any:
        """Raises UnsupportedError where the pipeline takes no text."""
        return self.pipe.tokenizer

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one latent (1, C, h, w)."""
        config = self.network.config
        return (1, config.in_channels, config.sample_size, config.sample_size)

    def asked(self, prompt: str) -> dict[str, Any]:
        """How the pipeline's call is given a prompt."""
        return {"prompt": prompt}

    def embed(self, text: str) -> Tensor:
        """(1, L, D). Raises UnsupportedError for a text that the pipeline cannot be asked for."""
        with torch.no_grad():
            embeds, _ = self.pipe.encode_prompt(text, self.pipe._execution_device, 1, False)
        return embeds  # type: ignore[no-any-return]

    def outputs(self, rows: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        """(N, C, h, w) of scaled latents (N, C, h, w), each under one of embeds (N, L, D)."""
        return self.network(rows, timestep, encoder_hidden_states=embeds, return_dict=False)[0]  # type: ignore[no-any-return]

    def step_arguments(self, generator: torch.Generator) -> dict[str, Any]:
        """What the pipeline passes to the scheduler's step, beside the output."""
        return dict(self.pipe.prepare_extra_step_kwargs(generator, 0.0))

    def pixels(self, latents: Tensor) -> Tensor:
        """(B, 3, H, W), about [−1, 1], with gradients where they are enabled."""
        return self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor, return_dict=False)[0]  # type: ignore[no-any-return]

    def image(self, pixels: Tensor) -> Image.Image:
        (image,) = self.pipe.image_processor.postprocess(pixels, output_type="pil")
        return image  # type: ignore[no-any-return]


class OfTransformer(OfUNet):
    """What pipelines of transformers have in common."""

    @property
    def network(self) -> Any:
        return self.pipe.transformer

    @property
    def cross_attending(self) -> Any:
        raise UnsupportedError(f"{type(self.pipe).__name__} has no cross-attention to its prompt")

    def step_arguments(self, generator: torch.Generator) -> dict[str, Any]:
        return {}


class OfJointAttention(OfTransformer):
    """StableDiffusion3Pipeline: the condition is the text embedding, and the pooled one in further rows at its end."""

    def embed(self, text: str) -> Tensor:
        with torch.no_grad():
            tokens, _, pooled, _ = self.pipe.encode_prompt(
                text, None, None, device=self.pipe._execution_device, do_classifier_free_guidance=False, **self.extra
            )  # fmt: skip
        width = tokens.shape[-1]
        filled = torch.nn.functional.pad(pooled, (0, -pooled.shape[-1] % width))
        return torch.cat([tokens, filled.view(1, -1, width)], dim=1)

    def outputs(self, rows: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        pooled = int(self.network.config.pooled_projection_dim)
        last = -(-pooled // embeds.shape[-1])
        tokens, rest = embeds[:, :-last].contiguous(), embeds[:, -last:].flatten(1)[:, :pooled].contiguous()
        made = self.network(rows, tokens, rest, timestep.expand(len(rows)), return_dict=False)
        return made[0]  # type: ignore[no-any-return]

    def pixels(self, latents: Tensor) -> Tensor:
        config = self.pipe.vae.config
        moved = latents / config.scaling_factor + config.shift_factor
        return self.pipe.vae.decode(moved, return_dict=False)[0]  # type: ignore[no-any-return]


class OfClasses(OfTransformer):
    """DiTPipeline: the condition is the class's embedding in each block, after a row of zeros in the place of a start token."""

    @property
    def tokenizer(self) -> Any:
        raise UnsupportedError("DiTPipeline takes class labels, no text")

    def asked(self, prompt: str) -> dict[str, Any]:
        return {"class_labels": [self.label(prompt)]}

    def label(self, text: str) -> int:
        found = class_called(self.pipe, text)
        if found is None:
            raise UnsupportedError(f"this DiTPipeline has no class that is called {text!r}")
        return found

    def embed(self, text: str) -> Tensor:
        label = torch.tensor([self.label(text) if text else NULL_CLASS], device=self.pipe._execution_device)
        with torch.no_grad():
            rows = [embedder(label) for embedder in self._embedders()]
        return torch.stack([torch.zeros_like(rows[0]), *rows], dim=1)

    def outputs(self, rows: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        # DiTPipeline has the conditional half first, and where a row stands may decide its last bit
        rows, embeds = rows.flip(0), embeds.flip(0)
        anything = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        with self._conditioned(embeds):
            out = self.network(rows, timestep=timestep.expand(len(rows)), class_labels=anything).sample
        return out[:, : self.shape[1]].flip(0)  # type: ignore[no-any-return]  # a learned sigma is left out

    def pixels(self, latents: Tensor) -> Tensor:
        return self.pipe.vae.decode(1 / self.pipe.vae.config.scaling_factor * latents).sample  # type: ignore[no-any-return]

    def image(self, pixels: Tensor) -> Image.Image:
        (image,) = self.pipe.numpy_to_pil(
            (pixels / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
        )
        return image  # type: ignore[no-any-return]

    def _embedders(self) -> list[Any]:
        return [block.norm1.emb.class_embedder for block in self.network.transformer_blocks]

    @contextmanager
    def _conditioned(self, embeds: Tensor) -> Iterator[None]:
        def instead(row: int, module: Any, args: Any, output: Any) -> Tensor:
            return embeds[:, row]

        handles = [
            embedder.register_forward_hook(partial(instead, row))
            for row, embedder in enumerate(self._embedders(), 1)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


KINDS: dict[str, type[OfUNet]] = {
    "StableDiffusionPipeline": OfUNet,
    "StableDiffusion3Pipeline": OfJointAttention,
    "DiTPipeline": OfClasses,
}


def denoiser_for(pipe: Any, extra: Mapping[str, Any]) -> OfUNet:
    """How this pipeline's denoiser is asked. Raises UnsupportedError for a pipeline of another class."""
    name = type(pipe).__name__
    if name not in KINDS:
        raise UnsupportedError(
            f"the methods of the comparison are written for {', '.join(KINDS)}, not {name}"
        )
    return KINDS[name](pipe, extra)
