"""What the laboratory ships beside the product's embedded model: the bystander, the siblings, ordinary pictures, scores."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parent
BYSTANDER_FOLDER = ASSETS / "bystander"
SIBLINGS_FOLDER = ASSETS / "siblings"
