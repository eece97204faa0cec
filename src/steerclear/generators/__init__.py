"""What makes images: a diffusers pipeline, a GAN or a VAE, each behind a small interface."""

from steerclear.generators.code import CodeGenerator
from steerclear.generators.conditions import Condition
from steerclear.generators.diffusers import LeaveEarly, Pass, PipelineGenerator
from steerclear.generators.gan import GanGenerator
from steerclear.generators.vae import VaeGenerator

__all__ = [
    "CodeGenerator",
    "Condition",
    "GanGenerator",
    "LeaveEarly",
    "Pass",
    "PipelineGenerator",
    "VaeGenerator",
]
