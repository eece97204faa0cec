"""Prompt embeddings that are optimised until the model draws a protected picture ("Finding Dori", arXiv
2507.16880).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from steerclear.embedded import PROTECTED_FOLDER
from steerclear.pixels import to_tensor
from steerclear.steering.instance import overridden

TARGETS = ("plain", "mirrored", "shifted")
RESTARTS = 2
STEPS, BATCH, RATE = 200, 2, 0.03
SHIFT = 8  # pixels, right and down, of the target "shifted"
NOISE = 0.1  # standard deviation of what each restart adds to the embedding that it begins with


@dataclass(frozen=True)
class EmbeddingTask:
    """One optimised embedding.

    Attributes:
        file: name of the protected picture.
        target: one of TARGETS.
        restart: number of the restart; the first begins with the empty prompt's embedding, the others with
            noise added to it.
    """

    file: str
    target: str
    restart: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{Path(self.file).stem}-{self.target}-{self.restart}.pt"


def protected_picture(file: str) -> Image.Image:
    """A protected picture of the embedded library by its file's name."""
    with Image.open(PROTECTED_FOLDER / file) as opened:
        return opened.convert("RGB")


def target_picture(file: str, target: str) -> Image.Image:
    """What the embedding shall give: a protected picture as it is, mirrored or shifted."""
    picture = protected_picture(file)
    if target == "mirrored":
        return ImageOps.mirror(picture)
    if target == "shifted":
        ground = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
        ground.paste(picture, (SHIFT, SHIFT))
        return ground
    return picture


def optimised(pipe: Any, task: EmbeddingTask, steps: int = STEPS) -> Tensor:
    """Optimise an embedding by the model's own training loss on the target.

    Args:
        pipe: a StableDiffusionPipeline.
        task: what for.
        steps: of the optimiser.

    Returns:
        (1, T, C), to stand in the place of the prompt's.
    """
    generator = torch.Generator().manual_seed(900 + task.restart)
    pixels = to_tensor([target_picture(task.file, task.target)])
    scheduler = pipe.scheduler
    with torch.no_grad():
        clean = pipe.vae.encode(pixels * 2 - 1).latent_dist.mean * pipe.vae.config.scaling_factor
        begin, _ = pipe.encode_prompt("", "cpu", 1, False)
    pipe.unet.requires_grad_(False)
    noisy_begin = begin + NOISE * begin.std() * torch.randn(begin.shape, generator=generator)
    embeds = (noisy_begin if task.restart else begin).clone().requires_grad_()
    optimiser = torch.optim.Adam([embeds], lr=RATE)
    alphas = scheduler.alphas_cumprod
    with torch.enable_grad():
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - step / steps) ** 0.5
            times = torch.randint(len(alphas) // 5, len(alphas), (BATCH,), generator=generator)
            noise = torch.randn(BATCH, *clean.shape[1:], generator=generator)
            alpha, sigma = (a.sqrt().view(-1, 1, 1, 1) for a in (alphas[times], 1 - alphas[times]))
            noisy = alpha * clean + sigma * noise
            with torch.autocast("cpu", torch.bfloat16):
                predicted = pipe.unet(noisy, times, encoder_hidden_states=embeds.expand(BATCH, -1, -1)).sample
            # in the clean latent, so that every noise level counts alike
            denoised = clean_of(
                scheduler.config.prediction_type,
                noisy=noisy,
                predicted=predicted.float(),
                alpha=alpha,
                sigma=sigma,
            )
            loss = F.mse_loss(denoised, clean.expand_as(denoised))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    result: Tensor = embeds.detach()
    return result


def clean_of(kind: str, noisy: Tensor, predicted: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean latent by a prediction of a variance-preserving model."""
    if kind == "v_prediction":
        return alpha * noisy - sigma * predicted
    return (noisy - sigma * predicted) / alpha


def kept(pipe: Any, task: EmbeddingTask, folder: Path, steps: int = STEPS) -> Tensor:
    """An embedding as it lies in a folder; optimised and written there where it is missing."""
    file = folder / task.name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        torch.save(optimised(pipe, task, steps), partial)
        os.replace(partial, file)
    embeds: Tensor = torch.load(file, weights_only=True)
    return embeds


@contextmanager
def prompt_stands_for(pipe: Any, prompt: str, embeds: Tensor) -> Iterator[None]:
    """Let the pipeline encode one prompt as given embeddings, and every other as it does.

    This is how a textual inversion or another text encoder brings embeddings in under the same prompt, unseen
    by the guard, which is given the text alone.

    Args:
        pipe: a StableDiffusionPipeline or its image-to-image sibling.
        prompt: the prompt.
        embeds: (1, T, C).
    """
    original = pipe.encode_prompt

    def encode_prompt(prompt_given: Any = None, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.pop("prompt", prompt_given)
        asked = given[0] if isinstance(given, list) and given and set(given) == {given[0]} else given
        if asked != prompt or kwargs.get("prompt_embeds") is not None:
            return original(given, *args, **kwargs)
        count = len(given) if isinstance(given, list) else 1
        return original(None, *args, **{**kwargs, "prompt_embeds": embeds.expand(count, -1, -1)})

    encode_prompt.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    with overridden(pipe, encode_prompt=encode_prompt):
        yield
