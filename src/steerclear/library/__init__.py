"""The protected pictures: a store, adding to it, and exact search. LanceDB is only imported at first use."""

from steerclear.library.images import read_frames, read_image
from steerclear.library.ingest import IngestReport, Progress, add
from steerclear.library.schema import EncoderSpec, Entry, Inserted, Item, Policy, Version
from steerclear.library.search import Index, nearest
from steerclear.library.sources import Source
from steerclear.library.store import Library
from steerclear.library.verify import Problem, verify

__all__ = [
    "EncoderSpec",
    "Entry",
    "Index",
    "IngestReport",
    "Inserted",
    "Item",
    "Library",
    "Policy",
    "Problem",
    "Progress",
    "Source",
    "Version",
    "add",
    "nearest",
    "read_frames",
    "read_image",
    "verify",
]
