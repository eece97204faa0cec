"""Steering: where a latent can be seen and moved while a diffusers pipeline runs."""

from steerclear.steering.autoencoder import Codec
from steerclear.steering.codecs import codec_for
from steerclear.steering.denoised import Affine, affine
from steerclear.steering.hook import Step, steer, unwrapped_call
from steerclear.steering.preview import Preview, fit_preview, preview_for
from steerclear.steering.seeds import derive, generators

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
