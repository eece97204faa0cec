"""Encoders from elsewhere: CLIP, SigLIP and DINOv2 of transformers, SSCD as TorchScript, a pipeline's VAE."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.errors import ConfigError, EncoderError
from steerclear.fingerprints import weights_fingerprint
from steerclear.pixels import fit, normalised, processor_side

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Pizzi et al. 2022, §4: the shorter side at inference; here the picture is squeezed to a square
SSCD_SIDE = 288


@dataclass(frozen=True)
class TransformersEncoder:
    """The image half of any `transformers` model that has one: CLIP, SigLIP, DINOv2 and others.

    The embedding is the projected image features where the model has them, else the pooled output, else the
    first token. Preprocessing uses the size, mean and std of the model's image processor, on tensors, without
    a centre crop, which would hide what lies at the edge.

    Attributes:
        model: on its device.
        tokenizer: None for a model without texts.
        size: side in pixels of the images that it expects; others are resized.
        dim: width of the embedding.
        mean: per channel, subtracted from the pixels.
        std: per channel, divides the pixels.
        fingerprint: of weights and preprocessing.
        name: the encoder's name.
        differentiable: gradients reach the images.
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
        cls,
        source: str | Path,
        name: str | None = None,
        device: torch.device | str = "cpu",
        *,
        allow_download: bool = False,
    ) -> TransformersEncoder:
        """Loads a model.

        Args:
            source: a folder, or the hub id of a model that was downloaded before.
            name: the encoder's name; by default `transformers:SOURCE`.
            device: where its weights go.
            allow_download: also ask the hub for it.

        Raises:
            EncoderError: if it cannot be loaded, or has no image half.
        """
        from transformers import AutoModel, AutoTokenizer
        from transformers.image_processing_base import ImageProcessingMixin

        source = source if allow_download else _on_this_machine(source, "config.json")
        local = {"local_files_only": not allow_download}
        try:
            # no code from the model's folder, and no pickled weights, which are a program
            model = AutoModel.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **local
            )
            model = model.eval().requires_grad_(False)
            settings, _ = ImageProcessingMixin.get_image_processor_dict(source, **local)
        except Exception as error:  # of a damaged folder anything
            raise EncoderError(
                f"{source} holds no model with an image processor: {_first_line(error)}"
            ) from error
        try:
            has_texts = hasattr(model, "get_text_features")
            tokenizer = (
                AutoTokenizer.from_pretrained(source, trust_remote_code=False, **local) if has_texts else None
            )
        except Exception:  # as above; without texts it is an encoder all the same
            tokenizer = None
        size = processor_side(settings, 224)
        mean = tuple(settings.get("image_mean") or IMAGENET_MEAN)
        std = tuple(settings.get("image_std") or IMAGENET_STD)
        with torch.no_grad():
            dim = _features(model, torch.zeros(1, 3, size, size)).shape[1]
        return cls(
            model=model.to(device),
            tokenizer=tokenizer,
            size=size,
            dim=dim,
            mean=mean,
            std=std,
            fingerprint=weights_fingerprint(model, f"{size} {mean} {std}"),
            name=name or f"transformers:{source}",
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Embeds images (B, 3, H, W) in [0, 1] as (B, dim), each row of unit length."""
        pixels = normalised(fit(images, self.size), self.mean, self.std)
        return F.normalize(_features(self.model, pixels.to(self.model.device)).float(), dim=-1)

    def texts(self, texts: list[str]) -> Tensor:
        """Embeds texts as (B, dim) in the same space, each row of unit length.

        Raises:
            EncoderError: for a model without texts.
        """
        if self.tokenizer is None:
            raise EncoderError(f"the encoder {self.name!r} cannot embed texts; use a CLIP or a SigLIP")
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        inputs = {
            name: tensor.to(self.model.device)
            for name, tensor in tokens.items()
            if name in ("input_ids", "attention_mask")
        }
        return F.normalize(_as_tensor(self.model.get_text_features(**inputs)).float(), dim=-1)


@dataclass(frozen=True)
class SscdEncoder:
    """SSCD (Pizzi et al., CVPR 2022) from its authors' TorchScript, such as `sscd_disc_mixup.torchscript.pt`.

    Preprocessing: 288 × 288, bicubic, ImageNet mean and std. Public repositories differ in this, and so do
    their scores: calibrate.

    Attributes:
        network: on its device.
        dim: width of the embedding.
        fingerprint: of the file and the preprocessing.
        name: the encoder's name.
        device: where the network is.
        size: side in pixels of the images that it expects; others are resized.
        differentiable: gradients reach the images.
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
        cls,
        file: str | Path,
        name: str | None = None,
        device: torch.device | str = "cpu",
        *,
        fingerprint: str | None = None,
        trust: bool = False,
    ) -> SscdEncoder:
        """Loads a TorchScript file. It is a program: load only what you trust.

        Args:
            file: one of the authors' files.
            name: the encoder's name; by default `sscd:FILE`.
            device: where the network goes.
            fingerprint: that it must have, compared before the file is opened as TorchScript.
            trust: that you know who made it; without it nothing is opened.

        Raises:
            ConfigError: without `trust`.
            EncoderError: if the file is missing, has another fingerprint, is no TorchScript, or returns no
                embedding.
        """
        try:
            content = Path(file).read_bytes() + f"{SSCD_SIDE}".encode()
        except OSError as error:
            raise EncoderError(f"{file} cannot be read: {error.strerror}") from error
        read = hashlib.sha256(content).hexdigest()[:16]
        if fingerprint is not None and fingerprint != read:
            raise EncoderError(
                f"{file} has the fingerprint {read}, and {fingerprint} is asked for: it is another file, and "
                "was not opened"
            )
        if not trust:
            raise ConfigError(
                f"{file} is TorchScript, a format that carries code, which runs as soon as it is loaded. If "
                "you trust whoever made it, pass --trust on the command line, or trust=True to load_encoder"
            )
        try:
            network = torch.jit.load(str(file), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                embedding = network(torch.zeros(1, 3, SSCD_SIDE, SSCD_SIDE))
            dim = int(embedding.flatten(1).shape[1])
        except Exception as error:  # of a damaged file, or from the program in it, anything
            raise EncoderError(
                f"{file} is no TorchScript of a copy descriptor: {_first_line(error)}"
            ) from error
        return cls(
            network=network.to(device),
            dim=dim,
            fingerprint=read,
            name=name or f"sscd:{file}",
            device=device,
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Embeds images (B, 3, H, W) in [0, 1] as (B, dim), each row of unit length."""
        pixels = normalised(fit(images.to(self.device), self.size), IMAGENET_MEAN, IMAGENET_STD)
        return F.normalize(self.network(pixels).flatten(1).float(), dim=-1)


@dataclass(frozen=True)
class LatentEncoder:
    """A pipeline's own autoencoder; nothing need be downloaded. The embedding is the flattened latent.

    Attributes:
        codec: the pipeline's codec, see `steering.codecs`.
        size: side in pixels at which pictures are encoded.
        dim: width of the embedding.
        fingerprint: of the weights and the size.
        name: the encoder's name.
        device: where the autoencoder is.
        differentiable: gradients reach the images.
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
        """Makes the encoder of a loaded pipeline.

        Args:
            pipe: a diffusers pipeline, on its device.
            name: the encoder's name.
            size: side in pixels at which pictures are encoded.

        Raises:
            UnsupportedError: for a pipeline family without a known codec.
        """
        from steerclear.steering.codecs import codec_for

        codec = codec_for(pipe)
        device = pipe._execution_device
        with torch.no_grad():
            dim = codec.encode(torch.zeros(1, 3, size, size, device=device)).flatten(1).shape[1]
        return cls(
            codec=codec,
            size=size,
            dim=dim,
            fingerprint=weights_fingerprint(codec.autoencoder, str(size)),
            name=name,
            device=device,
        )

    @classmethod
    def load(
        cls,
        model: str | Path,
        name: str | None = None,
        device: torch.device | str = "cpu",
        *,
        allow_download: bool = False,
    ) -> LatentEncoder:
        """Loads the autoencoder of a model.

        Args:
            model: a folder, or the hub id of a model that was downloaded before.
            name: the encoder's name; by default `vae:MODEL`.
            device: where the autoencoder goes.
            allow_download: also ask the hub for it.

        Raises:
            EncoderError: if the model is not on this machine, without `allow_download`.
            ModelError: if the model cannot be loaded.
            UnsupportedError: for a pipeline family without a known codec.
        """
        from steerclear.pipelines import load_pipeline

        name = name or f"vae:{model}"
        model = model if allow_download else _on_this_machine(model, "model_index.json")
        return cls.of(load_pipeline(model, str(device), local_files_only=not allow_download), name)

    def __call__(self, images: Tensor) -> Tensor:
        """Embeds images (B, 3, H, W) in [0, 1] as (B, dim), each row of unit length."""
        latents: Tensor = self.codec.encode(fit(images.to(self.device), self.size))
        return F.normalize(latents.flatten(1).float(), dim=-1)


def _features(model: Any, pixels: Tensor) -> Tensor:
    """(B, dim) image features of a transformers model."""
    if hasattr(model, "get_image_features"):
        return _as_tensor(model.get_image_features(pixel_values=pixels))
    try:
        output = model(pixel_values=pixels)
    except TypeError as error:
        raise EncoderError(f"{type(model).__name__} takes no pictures; use a vision model") from error
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    first_token: Tensor = output.last_hidden_state[:, 0]
    return first_token if pooled is None else pooled


def _on_this_machine(model: str | Path, file: str) -> str | Path:
    """The folder of a model that is on this machine; a hub id stands for what was downloaded before.

    The hub's client is not asked for it: even where it may not download, it makes requests of its own.

    Args:
        model: a folder or hub id.
        file: one that the model must have.

    Raises:
        EncoderError: if the model is not here.
    """
    if Path(model).exists():
        return model
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(str(model), file)
    except ValueError:  # no hub id
        cached = None
    if isinstance(cached, str):
        return Path(cached).parent
    raise EncoderError(
        f"there is no model {model} on this machine, and nothing is downloaded unless you say so: give its "
        "folder, or pass --allow-download on the command line, or allow_download=True to load_encoder"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _as_tensor(output: Any) -> Tensor:
    """The features: releases of transformers return them alone, or in the pooled part of an output."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features
