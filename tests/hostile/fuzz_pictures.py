"""A fuzz target of the picture reader: python fuzz_pictures.py FOLDER_OF_SEEDS -max_total_time=60

libFuzzer, through Atheris, changes the seeds so that ever more of Pillow's parsers and of our reader is
reached, and ends with the input that raised anything but an error of ours, took too long or too much memory.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["PIL", "pillow_heif", "pillow_jxl", "steerclear.library"]):
    from mutations import read_as_picture


@atheris.instrument_func
def fuzz(content: bytes) -> None:
    """Reads what libFuzzer has made."""
    read_as_picture(content)


if __name__ == "__main__":
    read_as_picture(b"")  # what is imported at first use
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
