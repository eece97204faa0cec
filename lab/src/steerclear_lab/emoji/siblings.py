"""Siblings: models of other architectures around the embedded model's autoencoder and text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from steerclear.embedded import MODEL_FOLDER
from steerclear.errors import InputError, ModelError
from steerclear_lab.assets import SIBLINGS_FOLDER

Sibling = Literal["dit", "flow"]
SIBLINGS: tuple[Sibling, ...] = get_args(Sibling)
PIXELS = 64  # side of the embedded autoencoder's images


def load_sibling(name: Sibling, folder: Path = SIBLINGS_FOLDER) -> Any:
    """Load a sibling around the embedded autoencoder and text encoder.

    Args:
        name: "dit", a DiTPipeline with a class for each drawing and caption, or "flow", a
            StableDiffusion3Pipeline.
        folder: holds the sibling in `folder/name`; by default the one that ships with the laboratory.

    Returns:
        The pipeline, on the CPU and in float32. `save_pretrained` writes it whole.

    Raises:
        InputError: for another name.
        ModelError: if the folder has no such sibling.
    """
    from diffusers import DiTPipeline, StableDiffusion3Pipeline

    from steerclear_lab.emoji.dit import with_saved_labels

    if name not in SIBLINGS:
        raise InputError(f"unknown sibling {name!r}; there are {', '.join(SIBLINGS)}")
    if not (folder / name / "model_index.json").is_file():
        raise ModelError(
            f"there is no sibling in {folder / name}; "
            f"run: steerclear train-emoji --stage {name} --out {folder}"
        )
    parts = embedded_parts(name)
    if name == "flow":
        parts |= {"text_encoder_2": parts["text_encoder"], "tokenizer_2": parts["tokenizer"]}
        parts |= {"text_encoder_3": None, "tokenizer_3": None}  # diffusers wants absent parts named
    family = DiTPipeline if name == "dit" else StableDiffusion3Pipeline
    pipe = family.from_pretrained(folder / name, **parts)
    pipe.set_progress_bar_config(disable=True)
    return with_saved_labels(pipe) if name == "dit" else pipe


def embedded_parts(name: Sibling) -> dict[str, Any]:
    """The components that a sibling shares with the embedded model, by name, in float32."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModelWithProjection

    from steerclear.encoders.embedded import Clip

    vae = AutoencoderKL.from_pretrained(MODEL_FOLDER / "vae").requires_grad_(False)
    if name == "dit":
        return {"vae": vae}
    vae.register_to_config(shift_factor=0.0)  # Stable Diffusion 3 adds one
    clip = Clip.load(MODEL_FOLDER)
    text_encoder = CLIPTextModelWithProjection(clip.model.config.text_config).eval().requires_grad_(False)
    text_encoder.text_model, text_encoder.text_projection = clip.model.text_model, clip.model.text_projection
    return {"vae": vae, "text_encoder": text_encoder, "tokenizer": clip.tokenizer}
