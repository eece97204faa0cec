"""Steering: where a latent can be seen and moved while a diffusers pipeline runs."""

from .codecs import Codec, codec_for
from .denoised import Affine, affine
from .hook import Step, steer, unwrapped_call
from .seeds import derive, generators

__all__ = [
    "Affine",
    "Codec",
    "Step",
    "affine",
    "codec_for",
    "derive",
    "generators",
    "steer",
    "unwrapped_call",
]
