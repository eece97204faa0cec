"""Latents of the protected pictures, kept in the library for each autoencoder that made them.

Encoding a picture costs a pass through an autoencoder; reading its latent back costs next to nothing, and by
then the original file may be gone. A row belongs to the hash of a picture's file, not to its id, so that it
outlives a `restore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerclear.library.compaction import tidy_table
from steerclear.library.failures import lance_errors, read_again, retry_conflicts
from steerclear.library.table import LATENTS, connect, open_if_there, quoted, write_lock

if TYPE_CHECKING:
    from torch import Tensor

    from steerclear.library.store import Library

PATIENCE = 5.0  # seconds that a request waits for another writer


@dataclass(frozen=True)
class LatentCache:
    """The latents of a library's pictures, by one autoencoder.

    Attributes:
        library: the protected pictures.
        model: the fingerprint of the autoencoder's weights.
    """

    library: Library
    model: str

    def read(
        self, ids: Sequence[str], shape: Sequence[int], size: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """Reads the latents of some items.

        Args:
            ids: the items.
            shape: the shape of the latents, without a batch dimension.
            size: height and width of the image in pixels; it tells packed latents of the same length apart.

        Returns:
            Id → float32 latent of this shape, for the items that have one.

        Raises:
            LibraryError: if they cannot be read.
        """
        import torch

        id_of_hash = {sha256: item for item, sha256 in self.library.hashes_of(ids).items()}
        with lance_errors(self.library.uri):
            table = open_if_there(self.library.uri, LATENTS)
            if table is None or not id_of_hash:
                return {}
            conditions = (
                f"model = {quoted([self.model])}",
                f"shape = {quoted([_shape_text(shape, size)])}",
                f"sha256 IN ({quoted(list(id_of_hash))})",
            )
            rows = read_again(lambda: table.search().where(" AND ".join(conditions)).to_list())
        return {
            id_of_hash[row["sha256"]]: torch.frombuffer(
                bytearray(row["latent"]), dtype=torch.float32
            ).reshape(tuple(shape))
            for row in rows
        }

    def write(self, latents: Mapping[str, Tensor], size: tuple[int, int] | None = None) -> None:
        """Stores latents in one commit.

        Args:
            latents: id → latent, all of one shape.
            size: height and width of the image in pixels, as for `read`.

        Raises:
            LibraryError: if the library cannot be written to.
        """
        import pyarrow as pa

        kinds = [
            ("sha256", pa.string()),
            ("model", pa.string()),
            ("shape", pa.string()),
            ("latent", pa.binary()),
        ]
        schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds])
        uri = self.library.uri
        # a request does not wait for long; without the lock, a purge could miss what is written here
        with write_lock(uri, PATIENCE), lance_errors(uri):
            hashes = self.library.hashes_of(list(latents))
            rows = [
                {
                    "sha256": hashes[item],
                    "model": self.model,
                    "shape": _shape_text(latent.shape, size),
                    "latent": latent.detach().float().cpu().contiguous().numpy().tobytes(),
                }
                for item, latent in latents.items()
                if item in hashes
            ]
            table = open_if_there(uri, LATENTS)
            if table is None:
                table = connect(uri).create_table(LATENTS, schema=schema, exist_ok=True)
            merge = table.merge_insert(["sha256", "model", "shape"]).when_not_matched_insert_all()
            retry_conflicts(lambda: merge.execute(pa.Table.from_pylist(rows, schema=schema)))
            tidy_table(table)


def _shape_text(shape: Sequence[int], size: tuple[int, int] | None) -> str:
    """A latent's shape, and the image's size where it is given, as the table's column `shape` has them."""
    text = "x".join(map(str, shape))
    return text if size is None else f"{text} of {size[0]}x{size[1]}"
