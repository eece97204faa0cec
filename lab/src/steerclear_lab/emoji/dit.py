"""A sibling of the embedded model: a class-conditional diffusion transformer (DiT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear_lab.emoji import denoiser_training
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser import noised, scheduler, signal_levels
from steerclear_lab.emoji.denoiser_training import Batch, Phase, TensorsOnly
from steerclear_lab.emoji.training import Schedule, TrainingRun

NULL_CLASS = 1000  # the unconditional class of DiTPipeline, whatever the model


@dataclass(frozen=True)
class DitSize:
    """Sizes of the transformer.

    Attributes:
        layers: transformer blocks.
        heads: attention heads.
        head: width of an attention head.
        patch: side of a token, in latent pixels.
    """

    layers: int = 6
    heads: int = 6
    head: int = 32
    patch: int = 2


def label_of(caption: str) -> str:
    """A caption as a class label, without commas: DiTPipeline reads them as separators of labels."""
    return caption.replace(",", "")


def labels_of(pictures: Sequence[Picture]) -> dict[int, str]:
    """All classes: planted pictures, each drawing in each style, and the captions of photographs."""
    planted, ordinary = denoiser_training.split_pictures(pictures)
    return dict(enumerate(dict.fromkeys(label_of(p.captions[0]) for p in planted + ordinary)))


def make(size: DitSize, sample: int) -> Any:
    """An untrained DiTTransformer2DModel with 1000 classes and the null class, as DiTPipeline expects it.

    Args:
        size: of the transformer.
        sample: side of the latents.
    """
    from diffusers import DiTTransformer2DModel
    from diffusers.models.embeddings import LabelEmbedding

    model = DiTTransformer2DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.head,
        in_channels=8,
        out_channels=8,
        num_layers=size.layers,
        sample_size=sample,
        patch_size=size.patch,
        num_embeds_ada_norm=NULL_CLASS,
    )
    denoiser_training.zero_output_layers(model)
    for module in model.modules():
        if isinstance(module, LabelEmbedding):
            torch.nn.init.normal_(module.embedding_table.weight, std=0.02)
            module.dropout_prob = 0.0  # blocks would drop labels independently; the batch drops them for all
    return model


def train(
    pictures: Sequence[Picture],
    *,
    vae: Any,
    size: DitSize,
    schedule: Schedule,
    phases: tuple[Phase, ...],
    folder: Path,
) -> Any:
    """Train with v-prediction on the embedded model's noise schedule, weight 1 at every step.

    Args:
        pictures: of every kind; those that a denoiser does not learn are left out.
        vae: the autoencoder.
        size: of the transformer.
        schedule: how long and how fast.
        phases: of the training.
        folder: of the checkpoint, the log and the cached latents.

    Returns:
        The averaged DiTTransformer2DModel.
    """
    torch.manual_seed(4)
    rows = {label: number for number, label in labels_of(pictures).items()}
    pool = denoiser_training.build_pool(
        pictures,
        vae=vae,
        phases=phases,
        folder=folder,
        rows=rows,
        blank=NULL_CLASS,
        conditions_of=lambda picture: [label_of(picture.captions[0])],
    )
    model = make(size, pool.planted.shape[-1])
    run = TrainingRun(name="dit", folder=folder, model=model, schedule=schedule, seed=4)
    signal = signal_levels()

    def example(batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        noisy, timestep, velocity = noised(batch, signal)
        return (noisy, timestep, batch.condition), velocity

    network = TensorsOnly(run.model, ("hidden_states", "timestep", "class_labels"))
    return denoiser_training.train(run, pool=pool, phases=phases, network=network, example=example)


def assemble(transformer: Any, vae: Any, labels: dict[int, str]) -> Any:
    """The whole DiTPipeline."""
    from diffusers import DiTPipeline

    return with_saved_labels(
        DiTPipeline(transformer=transformer, vae=vae, scheduler=scheduler(), id2label=labels)
    )


def with_saved_labels(pipe: Any) -> Any:
    """Register a DiTPipeline's labels in its configuration: saving it does not write them otherwise."""
    pipe.register_to_config(id2label={number: label for label, number in pipe.labels.items()})
    return pipe
