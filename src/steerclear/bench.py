"""The old home of the laboratory: `python -m steerclear.bench.NAME` works for one release."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

from steerclear.plugins import LABORATORY

_new = find_spec("steerclear_lab") and find_spec("steerclear_lab.bench")
if _new is None:
    raise ModuleNotFoundError(
        f"{__name__} is steerclear_lab.bench now, which is not installed; run: pip install {LABORATORY}",
        name=__name__,
    )
# Python looks for what is below a package in its path: every module of the new home is found here as well
__path__ = list(_new.submodule_search_locations or ())
# to those who type the command: a DeprecationWarning from here would not be shown
warnings.warn(
    f"{__name__} has moved to steerclear_lab.bench; this path goes with the next release",
    FutureWarning,
    stacklevel=2,
)
