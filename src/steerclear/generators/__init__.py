"""What makes images: a diffusers pipeline behind one small interface."""

from steerclear.generators.diffusers import Condition, LeaveEarly, Pass, PipelineGenerator

__all__ = ["Condition", "LeaveEarly", "Pass", "PipelineGenerator"]
