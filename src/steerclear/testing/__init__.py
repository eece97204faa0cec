"""For tests, yours and ours: tiny pipelines of every family, and an encoder and a filter that do as told.

Nothing here downloads anything or needs a GPU.
"""

from .doubles import FakeEncoder, MockFilter
from .pipelines import FAMILIES, tiny_call, tiny_pipeline

__all__ = ["FAMILIES", "FakeEncoder", "MockFilter", "tiny_call", "tiny_pipeline"]
