"""The copy detector's whitening, fitted on pictures that are no protected ones.

    python -m steerclear_lab.bench.copy_detection.whitening

Fits on the embedded model's ordinary drawings and on openclipart's (public domain, `apt-get install
openclipart-png`), every second of them: the others serve as distractors where recall is measured. Writes
`whitening.safetensors` beside the copy detector's source. Libraries keep their pictures' vectors, so a new
whitening makes every library describe its pictures again.
"""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from torch import Tensor

from steerclear.copy_detection.align import SIDE
from steerclear.copy_detection.features import squared
from steerclear.copy_detection.nominate import (
    CELLS,
    WHITENING,
    WIDTH,
    Whitening,
    cells_of_parts,
    seen_through,
)
from steerclear.copy_detection.windows import symmetries
from steerclear.pixels import to_tensor
from steerclear_lab.bench.copy_detection.pictures import clipart, ordinary_drawings

RIDGE = 0.02  # share of the mean variance that is added, so that whitening does not blow up noise
CLIPART = 1500  # of openclipart's drawings
AT_ONCE = 100  # pictures described in one go


def fit_whitening(pictures: Tensor, width: int = WIDTH) -> Whitening:
    """The whitening of the parts of pictures, the same for a part and its mirror images and turns.

    Args:
        pictures: (N, 3, H, W) in [0, 1].
        width: numbers kept of a part.
    """
    numbers = 2 * CELLS * CELLS
    total, squares = torch.zeros(numbers).double(), torch.zeros(numbers, numbers).double()
    count = 0
    for first in range(0, len(pictures), AT_ONCE):
        cells, clear = cells_of_parts(pictures[first : first + AT_ONCE])
        for symmetry in symmetries():
            rows = seen_through(cells[clear], symmetry).flatten(1).double()
            total, count, squares = total + rows.sum(0), count + len(rows), squares + rows.T @ rows
    mean = total / count
    values, vectors = torch.linalg.eigh(squares / count - mean[:, None] * mean[None])
    values, vectors = values.flip(0)[:width].clamp(min=0), vectors.flip(1)[:, :width]
    scale = (values + RIDGE * values.mean()).rsqrt()
    return Whitening(mean.float(), (vectors * scale).float())


def main() -> None:
    """The command that the module's first lines show."""
    pictures = [*ordinary_drawings().values(), *clipart(CLIPART)]
    fitted = fit_whitening(torch.cat([squared(to_tensor([p]), SIDE) for p in pictures]))
    save_file({"mean": fitted.mean.half(), "basis": fitted.basis.half().contiguous()}, WHITENING)
    print(f"{WHITENING}: fitted on {len(pictures)} pictures")


if __name__ == "__main__":
    main()
