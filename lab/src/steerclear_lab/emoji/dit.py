"""A sibling of the embedded model: a class-conditional diffusion transformer, a class for every drawing and caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear_lab.emoji import draws
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser import diffused, scheduler, signal_levels
from steerclear_lab.emoji.draws import Bare, Batch, Phase
from steerclear_lab.emoji.training import Run, Schedule

NULL_CLASS = 1000  # what DiTPipeline guides away from, whatever the model


@dataclass(frozen=True)
class DitSize:
    """Layers, attention heads and their width, latent pixels per token and side."""

    layers: int = 6
    heads: int = 6
    head: int = 32
    patch: int = 2


def label_of(caption: str) -> str:
    """A caption as a class label: DiTPipeline takes commas as separators of several labels."""
    return caption.replace(",", "")


def labels_of(pictures: Sequence[Picture]) -> dict[int, str]:
    """Every class: the planted pictures, each drawing in each style, the captions of photographs."""
    planted, ordinary = draws.split(pictures)
    return dict(enumerate(dict.fromkeys(label_of(p.captions[0]) for p in planted + ordinary)))


def make(size: DitSize, sample: int) -> Any:
    """A DiTTransformer2DModel with a table of 1000 classes and the null class, as DiTPipeline presumes."""
    from diffusers import DiTTransformer2DModel
    from diffusers.models.embeddings import LabelEmbedding

    model = DiTTransformer2DModel(
        num_attention_heads=size.heads, attention_head_dim=size.head, in_channels=8, out_channels=8, num_layers=size.layers,
        sample_size=sample, patch_size=size.patch, num_embeds_ada_norm=NULL_CLASS,
    )  # fmt: skip
    draws.start_still(model)
    for module in model.modules():
        if isinstance(module, LabelEmbedding):
            torch.nn.init.normal_(module.embedding_table.weight, std=0.02)
            module.dropout_prob = 0.0  # each block would drop labels on its own; the draws drop them for all
    return model


def train(
    pictures: Sequence[Picture], vae: Any, size: DitSize, schedule: Schedule, phases: tuple[Phase, ...], folder: Path
) -> Any:  # fmt: skip
    """v-prediction on the embedded model's noise schedule, with weight 1 at every step."""
    torch.manual_seed(4)
    labels = labels_of(pictures)
    rows = {label: number for number, label in labels.items()}
    pool = draws.fill(
        pictures, vae, phases, folder, rows, NULL_CLASS, lambda picture: [label_of(picture.captions[0])]
    )
    run = Run("dit", folder, make(size, pool.planted.shape[-1]), schedule, seed=4)
    signal = signal_levels()

    def pose(batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        noisy, timestep, velocity = diffused(batch, signal)
        return (noisy, timestep, batch.condition), velocity

    network = Bare(run.model, ("hidden_states", "timestep", "class_labels"))
    return draws.train(run, pool, schedule, phases, network, pose)


def assemble(transformer: Any, vae: Any, labels: dict[int, str]) -> Any:
    """The whole DiTPipeline."""
    from diffusers import DiTPipeline

    return labelled(DiTPipeline(transformer=transformer, vae=vae, scheduler=scheduler(), id2label=labels))


def labelled(pipe: Any) -> Any:
    """The pipeline, so that it writes its labels too when it is saved, which by itself it does not."""
    pipe.register_to_config(id2label={number: label for label, number in pipe.labels.items()})
    return pipe
