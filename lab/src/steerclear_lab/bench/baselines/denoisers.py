"""How the methods of the comparison call each pipeline's denoiser: prompt to condition, latent to output.

Each class does what its pipeline does, operation by operation, so that a method that changes nothing gives
the plain pipeline's picture bit for bit. A condition is one tensor (1, L, D) whatever the pipeline, so that
methods can mix, move and optimise it in the same way.
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

NULL_CLASS = 1000  # the unconditional class of DiTPipeline, whatever the model


class UNetDenoiser:
    """StableDiffusionPipeline: the condition is the text embedding; its first row belongs to the start token.

    Args:
        pipe: the pipeline.
        extra: further arguments of the pipeline's call.
    """

    def __init__(self, pipe: Any, extra: Mapping[str, Any]) -> None:
        self.pipe, self.extra = pipe, dict(extra)

    @property
    def network(self) -> Any:
        """The network that predicts the output."""
        return self.pipe.unet

    @property
    def cross_attention_network(self) -> Any:
        """The network whose cross-attentions a method may change.

        Raises:
            UnsupportedError: if it has none.
        """
        return self.network

    @property
    def tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            UnsupportedError: if the pipeline takes no text.
        """
        return self.pipe.tokenizer

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent, (1, C, h, w)."""
        config = self.network.config
        return (1, config.in_channels, config.sample_size, config.sample_size)

    def prompt_arguments(self, prompt: str) -> dict[str, Any]:
        """The arguments by which the pipeline's call takes a prompt."""
        return {"prompt": prompt}

    def embed(self, text: str) -> Tensor:
        """The condition (1, L, D) of a text.

        Raises:
            UnsupportedError: if the pipeline cannot draw this text, a class it does not have.
        """
        with torch.no_grad():
            embeds, _ = self.pipe.encode_prompt(text, self.pipe._execution_device, 1, False)
        return embeds  # type: ignore[no-any-return]

    def outputs(self, rows: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        """The outputs (N, C, h, w) for scaled latents (N, C, h, w), each under its embedding of (N, L, D)."""
        return self.network(rows, timestep, encoder_hidden_states=embeds, return_dict=False)[0]  # type: ignore[no-any-return]

    def step_arguments(self, generator: torch.Generator) -> dict[str, Any]:
        """What the pipeline passes to the scheduler's `step` beside output, timestep and sample."""
        return dict(self.pipe.prepare_extra_step_kwargs(generator, 0.0))

    def pixels(self, latents: Tensor) -> Tensor:
        """Decoded latents, (B, 3, H, W) in about [−1, 1]; differentiable."""
        return self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor, return_dict=False)[0]  # type: ignore[no-any-return]

    def image(self, pixels: Tensor) -> Image.Image:
        """The picture of pixels (1, 3, H, W)."""
        (image,) = self.pipe.image_processor.postprocess(pixels, output_type="pil")
        return image  # type: ignore[no-any-return]


class TransformerDenoiser(UNetDenoiser):
    """What pipelines with a transformer have in common."""

    @property
    def network(self) -> Any:
        return self.pipe.transformer

    @property
    def cross_attention_network(self) -> Any:
        raise UnsupportedError(f"{type(self.pipe).__name__} has no cross-attention to its prompt")

    def step_arguments(self, generator: torch.Generator) -> dict[str, Any]:
        return {}


class JointAttentionDenoiser(TransformerDenoiser):
    """StableDiffusion3Pipeline: the condition is the text embedding, the pooled one in rows at its end."""

    def embed(self, text: str) -> Tensor:
        with torch.no_grad():
            tokens, _, pooled, _ = self.pipe.encode_prompt(
                text,
                prompt_2=None,
                prompt_3=None,
                device=self.pipe._execution_device,
                do_classifier_free_guidance=False,
                **self.extra,
            )
        width = tokens.shape[-1]
        filled = torch.nn.functional.pad(pooled, (0, -pooled.shape[-1] % width))
        return torch.cat([tokens, filled.view(1, -1, width)], dim=1)

    def outputs(self, rows: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        pooled = int(self.network.config.pooled_projection_dim)
        last = -(-pooled // embeds.shape[-1])
        tokens, rest = embeds[:, :-last].contiguous(), embeds[:, -last:].flatten(1)[:, :pooled].contiguous()
        outputs = self.network(
            hidden_states=rows,
            encoder_hidden_states=tokens,
            pooled_projections=rest,
            timestep=timestep.expand(len(rows)),
            return_dict=False,
        )
        return outputs[0]  # type: ignore[no-any-return]

    def pixels(self, latents: Tensor) -> Tensor:
        config = self.pipe.vae.config
        unscaled = latents / config.scaling_factor + config.shift_factor
        return self.pipe.vae.decode(unscaled, return_dict=False)[0]  # type: ignore[no-any-return]


class ClassDenoiser(TransformerDenoiser):
    """DiTPipeline: the condition is the class's embedding in each block.

    A row of zeros stands before them, in the place of a text's start token.
    """

    @property
    def tokenizer(self) -> Any:
        raise UnsupportedError("DiTPipeline takes class labels and has no tokenizer")

    def prompt_arguments(self, prompt: str) -> dict[str, Any]:
        return {"class_labels": [self.label(prompt)]}

    def label(self, text: str) -> int:
        """The number of a class.

        Raises:
            UnsupportedError: if the pipeline has no class of this name.
        """
        number = class_called(self.pipe, text)
        if number is None:
            raise UnsupportedError(f"this DiTPipeline has no class {text!r}; its names are in pipe.labels")
        return number

    def embed(self, text: str) -> Tensor:
        label = torch.tensor([self.label(text) if text else NULL_CLASS], device=self.pipe._execution_device)
        with torch.no_grad():
            rows = [embedder(label) for embedder in self._embedders()]
        return torch.stack([torch.zeros_like(rows[0]), *rows], dim=1)

    def outputs(self, rows: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        # DiTPipeline has the conditional half first, and a row's place in the batch may decide its last bit
        rows, embeds = rows.flip(0), embeds.flip(0)
        unused = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        with self._conditioned(embeds):
            out = self.network(rows, timestep=timestep.expand(len(rows)), class_labels=unused).sample
        return out[:, : self.shape[1]].flip(0)  # type: ignore[no-any-return]  # without a learned sigma

    def pixels(self, latents: Tensor) -> Tensor:
        scale = 1 / self.pipe.vae.config.scaling_factor
        return self.pipe.vae.decode(scale * latents).sample  # type: ignore[no-any-return]

    def image(self, pixels: Tensor) -> Image.Image:
        (image,) = self.pipe.numpy_to_pil(
            (pixels / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
        )
        return image  # type: ignore[no-any-return]

    def _embedders(self) -> list[Any]:
        """The class embedders of all blocks."""
        return [block.norm1.emb.class_embedder for block in self.network.transformer_blocks]

    @contextmanager
    def _conditioned(self, embeds: Tensor) -> Iterator[None]:
        """While it lasts, the embedders return these embeddings."""

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


DENOISERS: dict[str, type[UNetDenoiser]] = {
    "StableDiffusionPipeline": UNetDenoiser,
    "StableDiffusion3Pipeline": JointAttentionDenoiser,
    "DiTPipeline": ClassDenoiser,
}


def denoiser_for(pipe: Any, extra: Mapping[str, Any]) -> UNetDenoiser:
    """How the denoiser of a pipeline is called.

    Args:
        pipe: a pipeline of one of the classes in DENOISERS.
        extra: further arguments of the pipeline's call.

    Raises:
        UnsupportedError: for a pipeline of another class.
    """
    name = type(pipe).__name__
    if name not in DENOISERS:
        raise UnsupportedError(
            f"the methods of the comparison are written for {', '.join(DENOISERS)}, not {name}"
        )
    return DENOISERS[name](pipe, extra)
