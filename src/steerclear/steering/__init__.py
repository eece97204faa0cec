"""Steering: where a latent can be seen and moved while a diffusers pipeline runs."""

from .codecs import Codec, codec_for
from .denoised import Affine, affine
from .hook import Step, steer, unwrapped_call
from .preview import Preview, fit_preview, preview_for
from .seeds import derive, generators

__all__ = [
    "Affine",
    "Codec",
    "Preview",
    "Step",
    "affine",
    "codec_for",
    "derive",
    "fit_preview",
    "generators",
    "preview_for",
    "steer",
    "unwrapped_call",
]
