"""Latents of the protected pictures, kept in the library for each autoencoder that made them.

Encoding a picture costs a pass through an autoencoder, reading its latent back costs next to nothing, and the original
file may be gone by then. Rows belong to a picture's bytes, not to its id, so that they survive `restore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steerclear.library.table import LATENTS, connect, holds_rows, lance_errors, quoted, retry_conflicts

if TYPE_CHECKING:
    from torch import Tensor

    from steerclear.library.store import Library


@dataclass(frozen=True)
class LatentCache:
    """A library's latents by one autoencoder. model: the fingerprint of its weights."""

    library: Library
    model: str

    def read(
        self, ids: Sequence[str], shape: Sequence[int], size: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """id → latent of this shape, of those items that have one; LibraryError when they cannot be read.

        size: of the image, which tells packed latents of the same length apart.
        """
        import torch

        by_hash = {sha256: item for item, sha256 in self.library.hashes_of(ids).items()}
        with lance_errors(self.library.uri):
            table = self._table()
            if table is None or not by_hash:
                return {}
            mine = f"model = {quoted([self.model])} AND shape = {quoted([_written(shape, size)])}"
            rows = table.search().where(f"{mine} AND sha256 IN ({quoted(list(by_hash))})").to_list()
        return {
            by_hash[row["sha256"]]: torch.frombuffer(bytearray(row["latent"]), dtype=torch.float32).reshape(
                tuple(shape)
            )
            for row in rows
        }

    def write(self, latents: Mapping[str, Tensor], size: tuple[int, int] | None = None) -> None:
        """Keep latents by id, all of one shape, in one commit. LibraryError where writing is not possible."""
        import pyarrow as pa

        hashes = self.library.hashes_of(list(latents))
        rows = [
            {
                "sha256": hashes[item], "model": self.model, "shape": _written(latent.shape, size),
                "latent": latent.detach().float().cpu().contiguous().numpy().tobytes(),
            }
            for item, latent in latents.items() if item in hashes
        ]  # fmt: skip
        kinds = [
            ("sha256", pa.string()),
            ("model", pa.string()),
            ("shape", pa.string()),
            ("latent", pa.binary()),
        ]
        schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds])
        with lance_errors(self.library.uri):
            table = self._table()
            if table is None:
                table = connect(self.library.uri).create_table(LATENTS, schema=schema, exist_ok=True)
            merge = table.merge_insert(["sha256", "model", "shape"]).when_not_matched_insert_all()
            retry_conflicts(lambda: merge.execute(pa.Table.from_pylist(rows, schema=schema)))

    def _table(self) -> Any | None:
        try:
            return connect(self.library.uri).open_table(LATENTS)
        except ValueError as error:
            if "not found" not in str(error) or holds_rows(self.library.uri, LATENTS):
                raise
            return None


def _written(shape: Sequence[int], size: tuple[int, int] | None) -> str:
    own = "x".join(map(str, shape))
    return own if size is None else f"{own} of {size[0]}x{size[1]}"
