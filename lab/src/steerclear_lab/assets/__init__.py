"""What the laboratory ships: the bystander, the siblings, the held-out models, ordinary pictures and the
scores of the calibration.

The embedded model itself, its library, prompts and protected pictures lie in `steerclear.embedded`.
"""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parent
BYSTANDER_FOLDER = ASSETS / "bystander"
SIBLINGS_FOLDER = ASSETS / "siblings"
HELDOUT_MODELS_FOLDER = ASSETS / "heldout-models"
COPY_JUDGE = ASSETS / "copy-judge" / "model.safetensors"
SWEEP_LABELS = ASSETS / "sweep-labels.json"
