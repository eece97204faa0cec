"""What `library add`, `list` and `log` say of how well altered copies of the items are recognised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from steerclear.cli.terminal import echo

if TYPE_CHECKING:
    from steerclear.library.store import Library

# items → share of altered copies whose item is among those that `copy` nominates and then compares closely,
# as docs/benchmarks/copy-detection.md has it under "Large libraries", rounded down
RECALL = {100: 0.99, 1_000: 0.98, 10_000: 0.92}
AT_ONCE = 1000  # thumbnails in memory together
NAMED = 10  # plain items that are named


def print_recognition(library: Library) -> None:
    """Print, beside the results, what looks for altered copies of a library's items, and how well it does."""
    echo(recognition(len(library), library.encoders[0].name), err=True)


def recognition(items: int, encoder: str) -> str:
    """What looks for altered copies in a library, and what it is good for, in a line.

    Args:
        items: of the library.
        encoder: name of its first encoder.
    """
    from steerclear.library.pictures import IN_MEMORY

    if items > IN_MEMORY:
        return (
            f"`copy`: the index of the encoder {encoder!r} nominates, since there are more than "
            f"{IN_MEMORY:,} items: for copies that are hardly altered "
            "or mirrored; how many others it finds was not measured"
        )
    measured = [size for size in RECALL if size >= items] or [max(RECALL)]
    share, size = RECALL[measured[0]], measured[0]
    beyond = "" if items <= size else "; more were not measured"
    return (
        f"`copy`: every item is compared; of altered copies {share:.0%} have their item among those that are "
        f"looked at closely, measured at {size:,} items{beyond}"
    )


def print_plain(library: Library, added: Sequence[str]) -> None:
    """Name those of the added items that are too plain for altered copies to be told."""
    plain = list(plain_items(library, added))
    if plain:
        more = f" and {len(plain) - NAMED} more" if len(plain) > NAMED else ""
        named = ", ".join(plain[:NAMED])
        echo(f"too plain: only nearly unaltered copies are sure to be found of {named}{more}", err=True)


def plain_items(library: Library, ids: Sequence[str]) -> Iterator[str]:
    """Those of some items of a library that are too plain, see `is_plain`."""
    from steerclear.copy_detection import is_plain

    for first in range(0, len(ids), AT_ONCE):
        batch, thumbnails = library.thumbnails(ids[first : first + AT_ONCE])
        yield from (item for item, picture in zip(batch, thumbnails, strict=True) if is_plain(picture))
