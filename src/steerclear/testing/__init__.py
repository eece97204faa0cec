"""For tests, yours and ours: tiny pipelines of every family, a fake encoder and a scripted filter.

Nothing here downloads anything or needs a GPU.
"""

from steerclear.testing.doubles import FakeEncoder, MockFilter
from steerclear.testing.pipelines import FAMILIES, tiny_call, tiny_pipeline

__all__ = ["FAMILIES", "FakeEncoder", "MockFilter", "tiny_call", "tiny_pipeline"]
