"""What every reader promises of any bytes, for the property test and for the fuzzer."""

from __future__ import annotations

import contextlib
import json
import resource
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from steerclear.errors import SteerclearError
from steerclear.library import read_frames
from steerclear.library.images import MAX_PIXELS, read_image
from steerclear.library.prepare import Preprocessor
from steerclear.library.sources import discover

MEMORY = (
    6 << 30
)  # bytes of addresses beyond what the process has; an allocation by a number in a file is more
SMALL = 1_000_000  # pixels: enough for what the seeds hold, so that a bomb costs no time


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Makes a larger allocation fail inside the block."""
    with open("/proc/self/statm") as stream:
        taken = int(stream.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refused(error: SteerclearError) -> bool:
    """False, for a refusal in one line."""
    line = str(error)
    assert line
    assert "\n" not in line
    return False


def read_as_picture(content: bytes) -> bool:
    """Reads bytes as a picture and returns whether they are one; anything but a refusal by name is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what it reads all the same
        try:
            picture = read_image(content, max_pixels=SMALL)
            frames = [frame.size for frame in read_frames(content, limit=4, max_pixels=SMALL)]
        except SteerclearError as error:
            return refused(error)
    assert picture.mode == "RGB"
    assert 0 < picture.width * picture.height <= SMALL
    assert frames
    return True


def read_as_list(name: str) -> Callable[[Path, bytes], bool]:
    """Reads bytes as a list of that file name, and every picture in it."""

    def read(folder: Path, content: bytes) -> bool:
        path = folder / name
        path.unlink(missing_ok=True)  # what is mapped into memory is not written over
        path.write_bytes(content)
        prepare = Preprocessor(
            defaults={"owner": "", "licence": "", "note": "", "tags": (), "policy": "steer"},
            captions={},
            max_pixels=MAX_PIXELS,
            sizes=frozenset((8,)),
            known_hashes=set(),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                seen = discover([folder if name.endswith(".arrow") else path])
            except SteerclearError as error:
                return refused(error)
            results = [prepare(source) for source in seen.sources[:20]]
        return any(hasattr(result, "item") for result in results)

    return read


def read_as_captions(folder: Path, content: bytes) -> bool:
    """Reads bytes as the JSON of captions."""
    from steerclear.cli.library.add import _read_captions

    (folder / "captions.json").write_bytes(content)
    try:
        captions = _read_captions(folder / "captions.json")
    except SteerclearError as error:
        return refused(error)
    json.dumps(captions)
    return True
