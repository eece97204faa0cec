"""Where the embedded model, its protected pictures and its prompt lists lie inside the package."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
MODEL_FOLDER = ASSETS / "model"
PROTECTED_FOLDER = ASSETS / "protected"
BYSTANDER_FOLDER = ASSETS / "bystander"


def read_prompts(name: str) -> list[tuple[str, str | None]]:
    """Rows of a shipped prompt list: (prompt, file of the protected picture or None).

    name: "planted" and "template" (paraphrases of planted captions) name a file; "ordinary", "heldout" and
    "controls" (ordinary pictures under unusual captions) do not.
    """
    rows = []
    for line in (ASSETS / "prompts" / f"{name}.txt").read_text().splitlines():
        prompt, _, file = line.partition("\t")
        rows.append((prompt, file or None))
    return rows
