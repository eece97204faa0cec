"""Everything that decides a picture: the options of `generate`, kept in every PNG so that `replay` can repeat
it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from steerclear import plugins
from steerclear._version import __version__

EMBEDDED = "embedded"
USUAL_GUIDANCE = 7.5  # of Stable Diffusion


@dataclass(frozen=True)
class Preferred:
    """What pulls: a text or an image file.

    Attributes:
        text: the text.
        image: path of the image file.
        sha256: first 16 hex digits of the image file's SHA-256.
    """

    text: str | None = None
    image: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Lora:
    """A LoRA's file.

    Attributes:
        file: its path.
        sha256: first 16 hex digits of its SHA-256.
        scale: how strongly it counts.
    """

    file: str
    sha256: str
    scale: float = 1.0


@dataclass(frozen=True)
class PromptAndSeed:
    """One picture of a call that makes several.

    Attributes:
        prompt: what it should show.
        seed: of its noise.
    """

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides one picture, and its outcome.

    Attributes:
        prompt: what the picture should show.
        seed: of the first noise, 0 to 2**63 - 1.
        steps: denoising steps.
        guidance: guidance scale.
        model: a folder, a hub id, or "embedded".
        library: a folder or address, or "embedded".
        device: a device of torch.
        ladder: names of strategies, in order.
        filters: names of filters beside those over the library.
        encoder: name of the encoder in whose space strategies steer; "" for the library's first.
        budget: most that one flagged picture may cost, as a multiple of the plain cost.
        prefer: what pulls.
        alternatives: file of prompts whose pictures may be drawn instead; "" for those that calibration kept.
        alternatives_fingerprint: 16 hex digits of that file; "" for none.
        negative_prompt: what the picture should not show; "" for none.
        height: of the picture in pixels; None for the model's own. width likewise.
        width: see height.
        scheduler: name of a scheduler class of diffusers; "" for the model's own.
        loras: LoRA files that are loaded into the model.
        together: every picture of the call that made this one, since what is computed together may round
            otherwise; empty for a picture that was made alone.
        image: which of `together` this picture is.
        dtype: of the weights, one of DTYPES; "" for the default of `load_pipeline`.
        variant: which files of the model folder.
        config: of a model in a single file, the folder or hub id of its configuration.
        offload: "model" or "sequential" to keep on the device only what runs; "" to keep all there.
        compile: whether the denoiser is compiled.
        model_fingerprint: 16 hex digits of the model's weights.
        library_fingerprint: 16 hex digits of the library's contents.
        library_version: of the library that the picture was compared with; None before it is made.
        outcome: clear, steered or withheld; "" before the picture is made.
        steerclear_version: what made it.
    """

    prompt: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = USUAL_GUIDANCE
    model: str = EMBEDDED
    library: str = EMBEDDED
    device: str = "cpu"
    ladder: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    encoder: str = ""
    budget: float | None = None
    prefer: tuple[Preferred, ...] = ()
    alternatives: str = ""
    alternatives_fingerprint: str = ""
    negative_prompt: str = ""
    height: int | None = None
    width: int | None = None
    scheduler: str = ""
    loras: tuple[Lora, ...] = ()
    together: tuple[PromptAndSeed, ...] = ()
    image: int = 0
    dtype: str = ""
    variant: str = ""
    config: str = ""
    offload: str = ""
    compile: bool = False
    model_fingerprint: str = ""
    library_fingerprint: str = ""
    library_version: int | None = None
    outcome: str = ""
    steerclear_version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """The recipe as a PNG carries it."""
        document = asdict(self)
        document["prefer"] = [
            {key: value for key, value in preferred.items() if value is not None}
            for preferred in document["prefer"]
        ]
        return document

    def plugin_names(self) -> list[tuple[plugins.Kind, str]]:
        """Every filter, encoder and strategy that the recipe names, with its kind."""
        names: list[tuple[plugins.Kind, str]] = [("strategy", name) for name in self.ladder]
        names += [("filter", name) for name in self.filters]
        return names + ([("encoder", self.encoder)] if self.encoder else [])
