"""The encoders that ship inside: the copy descriptor (the filters' eye) and the CLIP (the judge)."""

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
    """The embedded SSCD-style descriptor: what looks like a copy, not what shows the same concept."""

    network: descriptor.DescriptorNetwork
    size: int
    dim: int
    fingerprint: str
    name: str = "descriptor"
    differentiable: bool = True

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> CopyDescriptor:
        network, size = descriptor.load(folder)
        return cls(network.to(device), size, network.dim, file_fingerprint(folder / "model.safetensors"))

    @classmethod
    def default(cls, device: torch.device | str = "cpu") -> CopyDescriptor:
        """The one inside the package; loaded once per process and device."""
        return _default_descriptor(str(device))

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns (B, dim), unit length."""
        if images.shape[-1] != self.size or images.shape[-2] != self.size:
            images = F.interpolate(
                images, size=(self.size, self.size), mode="bicubic", antialias=True, align_corners=False
            )
        return self.network(images.to(self.network.head.weight))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Clip:
    """The embedded CLIP: concept and alignment. It judges, and is never what a filter decides by."""

    model: Any
    tokenizer: Any
    size: int
    dim: int
    fingerprint: str
    name: str = "clip"
    differentiable: bool = True

    @classmethod
    def load(cls, model_folder: Path, device: torch.device | str = "cpu") -> Clip:
        """The CLIP beside a model folder's pipeline. Raises EncoderError where there is none."""
        from transformers import CLIPModel, CLIPTokenizer

        folder = model_folder / "clip"
        if not (folder / "model.safetensors").exists():
            raise EncoderError(f"no CLIP in {folder}; train it again or reinstall")
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
        model = model.to(device).eval().requires_grad_(False)
        tokenizer = CLIPTokenizer.from_pretrained(model_folder / "tokenizer")
        config = model.config
        return cls(
            model,
            tokenizer,
            config.vision_config.image_size,
            config.projection_dim,
            file_fingerprint(folder / "model.safetensors"),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns (B, dim), unit length."""
        if images.shape[-1] != self.size or images.shape[-2] != self.size:
            images = F.interpolate(
                images, size=(self.size, self.size), mode="bicubic", antialias=True, align_corners=False
            )
        pixels = (images.to(self.model.device) - CLIP_MEAN) / CLIP_STD
        pooled = self.model.vision_model(pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def texts(self, texts: list[str]) -> Tensor:
        """Unit-length text embeddings (B, dim) in the same space."""
        length = self.model.config.text_config.max_position_embeddings
        ids = self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids.to(self.model.device)
        return F.normalize(self.model.text_projection(self.model.text_model(ids).pooler_output), dim=-1)


def load_descriptor(source: str, name: str, device: torch.device | str) -> CopyDescriptor:
    """The embedded copy descriptor, as the encoder `descriptor`."""
    _no_source(source, name)
    return CopyDescriptor.default(device)


def load_clip(source: str, name: str, device: torch.device | str) -> Clip:
    """The embedded CLIP, as the encoder `clip`."""
    _no_source(source, name)
    return Clip.load(embedded.MODEL_FOLDER, device)


def _no_source(source: str, name: str) -> None:
    if source:
        raise EncoderError(
            f"{name!r} names a source, but this encoder ships inside; leave out {':' + source!r}"
        )


@cache
def _default_descriptor(device: str) -> CopyDescriptor:
    return CopyDescriptor.load(embedded.MODEL_FOLDER / "descriptor", device)
