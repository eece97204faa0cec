"""Where the embedded model, its library, protected pictures and prompt lists lie inside the package."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
MODEL_FOLDER = FOLDER / "model"
LIBRARY_FOLDER = FOLDER / "library"
PROTECTED_FOLDER = FOLDER / "protected"
PROMPTS_FOLDER = FOLDER / "prompts"


def read_prompts(name: str) -> list[tuple[str, str | None]]:
    """Read a prompt list that comes with the embedded model.

    Args:
        name: "planted" and "template" (paraphrases of planted captions) name a protected picture for each
            prompt; "ordinary", "heldout" and "controls" (ordinary pictures under unusual captions) do not.

    Returns:
        Pairs of a prompt and the file of its protected picture, or None.
    """
    rows = []
    for line in (PROMPTS_FOLDER / f"{name}.txt").read_text().splitlines():
        prompt, _, file = line.partition("\t")
        rows.append((prompt, file or None))
    return rows


def is_embedded_library(uri: str) -> bool:
    """Whether a library is the one inside the package.

    That one is never written to, and its thumbnails are the pictures themselves.
    """
    return uri == str(LIBRARY_FOLDER)


def is_embedded(model: str | Path) -> bool:
    """Whether a model folder is the one inside the package."""
    return Path(model).resolve() == MODEL_FOLDER.resolve()
