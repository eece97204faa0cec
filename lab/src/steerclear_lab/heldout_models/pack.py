"""A model's pictures as two files, one sheet and one table, so that training needs no renderer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image

from steerclear.errors import InputError
from steerclear_lab.emoji.dataset import Picture

COLUMNS = 32
FIELDS = tuple(field.name for field in fields(Picture) if field.name != "pixels")


def write(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write `pictures.png`, a sheet in rows of 32, and `pictures.json`, one row for each picture.

    Args:
        folder: is made where it is missing.
        pictures: of one size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = pictures[0].pixels.shape[-1]
    sheet = np.full((-(-len(pictures) // COLUMNS) * size, COLUMNS * size, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = divmod(i, COLUMNS)
        sheet[y * size : (y + 1) * size, x * size : (x + 1) * size] = picture.pixels.transpose(1, 2, 0)
    Image.fromarray(sheet).save(folder / "pictures.png", optimize=True)
    rows = [{name: getattr(picture, name) for name in FIELDS} for picture in pictures]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (folder / "pictures.json").write_text(f'{{"size": {size}, "pictures": [\n{lines}\n]}}\n')


def read(folder: Path) -> list[Picture]:
    """The pictures of a pack, in their order.

    Raises:
        InputError: if the folder holds no pack.
    """
    if not (folder / "pictures.json").is_file():
        raise InputError(
            f"there is no pictures.json in {folder}; write it with steerclear_lab.heldout_models"
        )
    table = json.loads((folder / "pictures.json").read_text())
    size = table["size"]
    with Image.open(folder / "pictures.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    pictures = []
    for i, row in enumerate(table["pictures"]):
        y, x = divmod(i, COLUMNS)
        pixels = sheet[y * size : (y + 1) * size, x * size : (x + 1) * size].transpose(2, 0, 1).copy()
        pictures.append(Picture(**{**row, "captions": tuple(row["captions"])}, pixels=pixels))
    return pictures


def main() -> None:
    """Write the packs of both models from the packages that their pictures come from."""
    from steerclear_lab.heldout_models import clipart, scenes

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the packs")
    parser.add_argument("--icons", type=Path, default=Path("runs/icons"), help="where npm packages are kept")
    args = parser.parse_args()
    write(args.out / "clipart", clipart.build())
    write(args.out / "scenes", scenes.build(args.icons))


if __name__ == "__main__":
    main()
