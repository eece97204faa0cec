"""The encoders that ship inside: the copy descriptor, which filters use, and the CLIP, which judges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear import embedded
from steerclear.encoders import descriptor
from steerclear.errors import EncoderError
from steerclear.fingerprints import file_fingerprint

CLIP_MEAN, CLIP_STD = 0.5, 0.5


@dataclass(frozen=True)
class CopyDescriptor:
    """The embedded SSCD-style descriptor: it sees what looks like a copy, not what shows the same concept.

    Attributes:
        network: on its device.
        size: side in pixels of the images that it expects; others are resized.
        dim: width of the embedding.
        fingerprint: of the weights' file.
        name: the encoder's name.
        differentiable: gradients reach the images.
    """

    network: descriptor.DescriptorNetwork
    size: int
    dim: int
    fingerprint: str
    name: str = "descriptor"
    differentiable: bool = True

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> CopyDescriptor:
        """Load a descriptor from a folder that `train-emoji` made.

        Args:
            folder: holds `config.json` and `model.safetensors`.
            device: where its weights go.

        Raises:
            EncoderError: if there is no usable one.
        """
        network, size = descriptor.load(folder)
        return cls(
            network=network.to(device),
            size=size,
            dim=network.dim,
            fingerprint=file_fingerprint(folder / "model.safetensors"),
        )

    @classmethod
    def default(cls, device: torch.device | str = "cpu") -> CopyDescriptor:
        """Returns the one inside the package; loaded once per process and device."""
        return _default_descriptor(str(device))

    def __call__(self, images: Tensor) -> Tensor:
        """Embeds images (B, 3, H, W) in [0, 1] as (B, dim), each row of unit length."""
        pixels = _resized(images, self.size).to(self.network.head.weight)
        return self.network(pixels)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Clip:
    """The embedded CLIP: concepts, and how well a picture fits a text. It judges; no filter decides by it.

    Attributes:
        model: a `CLIPModel`, on its device.
        tokenizer: its `CLIPTokenizer`.
        size: side in pixels of the images that it expects; others are resized.
        dim: width of the embedding.
        fingerprint: of the weights' file.
        name: the encoder's name.
        differentiable: gradients reach the images.
    """

    model: Any
    tokenizer: Any
    size: int
    dim: int
    fingerprint: str
    name: str = "clip"
    differentiable: bool = True

    @classmethod
    def load(cls, model_folder: Path, device: torch.device | str = "cpu") -> Clip:
        """Load the CLIP that lies beside a pipeline in its model folder.

        Args:
            model_folder: the folder with the subfolder `clip`.
            device: where its weights go.

        Raises:
            EncoderError: if there is none.
        """
        from transformers import CLIPModel, CLIPTokenizer

        folder = model_folder / "clip"
        if not (folder / "model.safetensors").exists():
            raise EncoderError(f"no CLIP in {folder}; train it again or reinstall")
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
        model = model.to(device).eval().requires_grad_(False)
        return cls(
            model=model,
            tokenizer=CLIPTokenizer.from_pretrained(model_folder / "tokenizer"),
            size=model.config.vision_config.image_size,
            dim=model.config.projection_dim,
            fingerprint=file_fingerprint(folder / "model.safetensors"),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Embeds images (B, 3, H, W) in [0, 1] as (B, dim), each row of unit length."""
        pixels = (_resized(images, self.size).to(self.model.device) - CLIP_MEAN) / CLIP_STD
        pooled = self.model.vision_model(pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def texts(self, texts: list[str]) -> Tensor:
        """Embeds texts as (B, dim) in the same space, each row of unit length."""
        length = self.model.config.text_config.max_position_embeddings
        ids = self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids.to(self.model.device)
        return F.normalize(self.model.text_projection(self.model.text_model(ids).pooler_output), dim=-1)


def load_descriptor(source: str, name: str, device: torch.device | str) -> CopyDescriptor:
    """Load the embedded copy descriptor, the encoder named `descriptor`.

    Args:
        source: must be empty, since it ships inside.
        name: the encoder's name.
        device: where its weights go.
    """
    _check_no_source(source, name)
    return CopyDescriptor.default(device)


def load_clip(source: str, name: str, device: torch.device | str) -> Clip:
    """Load the embedded CLIP, the encoder named `clip`.

    Args:
        source: must be empty, since it ships inside.
        name: the encoder's name.
        device: where its weights go.
    """
    _check_no_source(source, name)
    return Clip.load(embedded.MODEL_FOLDER, device)


def _check_no_source(source: str, name: str) -> None:
    if source:
        raise EncoderError(
            f"{name!r} names a source, but this encoder ships inside; leave out {':' + source!r}"
        )


def _resized(images: Tensor, size: int) -> Tensor:
    """Images at size × size, not clamped to [0, 1], so that gradients reach every pixel."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True, align_corners=False)


@cache
def _default_descriptor(device: str) -> CopyDescriptor:
    return CopyDescriptor.load(embedded.MODEL_FOLDER / "descriptor", device)
