"""Steering: where a latent can be seen and moved while a diffusers pipeline runs."""

from .denoised import Affine, affine
from .hook import Step, steer, unwrapped_call
from .seeds import derive, generators

__all__ = ["Affine", "Step", "affine", "derive", "generators", "steer", "unwrapped_call"]
