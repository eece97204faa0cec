"""Encoders from anywhere: CLIP, SigLIP and DINOv2 through transformers, SSCD as a TorchScript file, a pipeline's own VAE."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.errors import EncoderError
from steerclear.fingerprints import weights_fingerprint
from steerclear.pixels import fit

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SSCD_SIDE = (
    288  # Pizzi et al. 2022, §4: the shorter side at inference; here the picture is squeezed to a square
)


@dataclass(frozen=True)
class TransformersEncoder:
    """The image half of any `transformers` model that has one: CLIP, SigLIP, DINOv2 and their like.

    model: on its device; preprocessing: size, mean and std as its image processor states them, done on tensors, without a
    centre crop, which would hide what lies at the edge. Embedding: the projected image features where the model has
    them, else the pooled output, else the first token. Gradients reach the images.
    """

    model: Any
    tokenizer: Any
    size: int
    dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    name: str
    differentiable: bool = True

    @classmethod
    def load(
        cls, source: str | Path, name: str | None = None, device: torch.device | str = "cpu"
    ) -> TransformersEncoder:
        """By folder or hub id; EncoderError where it cannot be loaded or has no image half."""
        from transformers import AutoModel, AutoTokenizer
        from transformers.image_processing_base import ImageProcessingMixin

        try:
            model = AutoModel.from_pretrained(source, dtype=torch.float32).eval().requires_grad_(False)
            settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"{source} holds no model with an image processor: {str(error).splitlines()[0]}"
            ) from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(source) if hasattr(model, "get_text_features") else None
        except (OSError, ValueError):
            tokenizer = None
        side = settings.get("crop_size") or settings.get("size") or 224
        size = side if isinstance(side, int) else int(side.get("height") or side["shortest_edge"])
        mean, std = (
            tuple(settings.get(key) or default)
            for key, default in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD))
        )
        with torch.no_grad():
            dim = _features(model, torch.zeros(1, 3, size, size)).shape[1]
        mark = weights_fingerprint(model, f"{size} {mean} {std}")
        return cls(model.to(device), tokenizer, size, dim, mean, std, mark, name or f"transformers:{source}")

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns (B, dim), unit length."""
        pixels = _normalised(fit(images, self.size), self.mean, self.std)
        return F.normalize(_features(self.model, pixels.to(self.model.device)).float(), dim=-1)

    def texts(self, texts: list[str]) -> Tensor:
        """Unit-length text embeddings (B, dim) in the same space; EncoderError for a model that has none."""
        if self.tokenizer is None:
            raise EncoderError(f"the encoder {self.name!r} knows no texts; take a CLIP or a SigLIP")
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        given = {
            k: v.to(self.model.device) for k, v in tokens.items() if k in ("input_ids", "attention_mask")
        }
        return F.normalize(_tensor(self.model.get_text_features(**given)).float(), dim=-1)


@dataclass(frozen=True)
class SscdEncoder:
    """SSCD (Pizzi et al., CVPR 2022) from one of its authors' TorchScript files, e.g. `sscd_disc_mixup.torchscript.pt`.

    Preprocessing: 288 × 288, bicubic, ImageNet mean and std. Repositories differ here, and scores with them: calibrate.
    """

    network: Any
    dim: int
    fingerprint: str
    name: str
    device: torch.device | str = "cpu"
    size: int = SSCD_SIDE
    differentiable: bool = True

    @classmethod
    def load(
        cls, file: str | Path, name: str | None = None, device: torch.device | str = "cpu"
    ) -> SscdEncoder:
        """EncoderError where the file is missing, is no TorchScript, or returns no embedding."""
        try:
            network = torch.jit.load(str(file), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                probe = network(torch.zeros(1, 3, SSCD_SIDE, SSCD_SIDE))
            dim = int(probe.flatten(1).shape[1])
        except (RuntimeError, ValueError, OSError, AttributeError) as error:
            raise EncoderError(
                f"{file} is no TorchScript of a copy descriptor: {str(error).splitlines()[0]}"
            ) from error
        mark = hashlib.sha256(Path(file).read_bytes() + f"{SSCD_SIDE}".encode()).hexdigest()[:16]
        return cls(network.to(device), dim, mark, name or f"sscd:{file}", device)

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns (B, dim), unit length."""
        pixels = _normalised(fit(images.to(self.device), self.size), IMAGENET_MEAN, IMAGENET_STD)
        return F.normalize(self.network(pixels).flatten(1).float(), dim=-1)


@dataclass(frozen=True)
class LatentEncoder:
    """A pipeline's own autoencoder: nothing to download, and what two pictures share for the model.

    size: side in pixels at which pictures are encoded; the embedding is the flattened latent.
    """

    codec: Any
    size: int
    dim: int
    fingerprint: str
    name: str
    device: torch.device | str = "cpu"
    differentiable: bool = True

    @classmethod
    def of(cls, pipe: Any, name: str = "vae", size: int = 128) -> LatentEncoder:
        """The encoder of a loaded pipeline; UnsupportedError for families without a known codec."""
        from steerclear.steering.codecs import codec_for

        codec = codec_for(pipe)
        device = pipe._execution_device
        with torch.no_grad():
            dim = codec.encode(torch.zeros(1, 3, size, size, device=device)).flatten(1).shape[1]
        return cls(codec, size, dim, weights_fingerprint(codec.autoencoder, str(size)), name, device)

    @classmethod
    def load(
        cls, model: str | Path, name: str | None = None, device: torch.device | str = "cpu"
    ) -> LatentEncoder:
        """The autoencoder of a model folder or hub id."""
        from steerclear.pipelines import load_pipeline

        return cls.of(load_pipeline(model, str(device)), name or f"vae:{model}")

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns (B, dim), unit length."""
        latents: Tensor = self.codec.encode(fit(images.to(self.device), self.size))
        return F.normalize(latents.flatten(1).float(), dim=-1)


def _features(model: Any, pixels: Tensor) -> Tensor:
    if hasattr(model, "get_image_features"):
        return _tensor(model.get_image_features(pixel_values=pixels))
    try:
        found = model(pixel_values=pixels)
    except TypeError as error:
        raise EncoderError(f"{type(model).__name__} takes no pictures; give a vision model") from error
    pooled: Tensor | None = getattr(found, "pooler_output", None)
    first: Tensor = found.last_hidden_state[:, 0]
    return first if pooled is None else pooled


def _tensor(found: Any) -> Tensor:
    """Releases of transformers return the features themselves, or an output that holds them as its pooled part."""
    features: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return features


def _normalised(images: Tensor, mean: Iterable[float], std: Iterable[float]) -> Tensor:
    middle, width = (images.new_tensor(tuple(v)).view(1, 3, 1, 1) for v in (mean, std))
    return (images - middle) / width
