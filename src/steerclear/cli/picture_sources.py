"""The pictures of `steerclear calibrate`: read from files, or generated from lists of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.cli.inputs import read_prompts, read_seeds
from steerclear.cli.opening import model_folder, usual_guidance
from steerclear.cli.recipe import Recipe
from steerclear.cli.recipe_checks import check_recipe
from steerclear.cli.terminal import progress, quiet_libraries
from steerclear.errors import InputError

if TYPE_CHECKING:
    from steerclear.calibrate import Grid, Picture


class PictureSources:
    """Turns arguments into pictures: reads files, generates from lists of prompts.

    Attributes:
        recipe: model, steps and guidance of what is generated.
        seeds: of what is generated, for each prompt.
        varied: whether pictures are drawn at settings around the recipe's rather than at these alone.
        settings: what the pictures were drawn at, as evidence has it; None before the first is generated.
        pipe: what generates; None before the first is generated.
    """

    def __init__(self, model: str, *, seeds: str, steps: int, guidance: float | None, varied: bool) -> None:
        guidance = usual_guidance(model) if guidance is None else guidance
        self.recipe = Recipe(model=model, steps=steps, guidance=guidance)
        check_recipe(self.recipe)
        self.seeds = read_seeds(seeds)
        self.varied = varied
        self.settings: dict[str, Any] | None = None
        self.pipe: Any = None
        self._drawn = 0

    def pictures(self, arguments: Sequence[str]) -> Iterator[Picture]:
        """The pictures of all arguments, one after the other.

        Args:
            arguments: files, folders and globs of pictures, or .txt files of prompts.

        Raises:
            InputError: for what cannot be read.
        """
        from steerclear.calibrate import Picture
        from steerclear.library.images import read_image
        from steerclear.library.sources import discover

        for argument in arguments:
            if argument.endswith(".txt"):
                yield from self._generated(Path(argument))
                continue
            sources, failed, _ = discover([argument])
            if failed:
                raise InputError(f"{failed[0][0]!r}: {failed[0][1]}")
            with progress(f"scoring {argument}", len(sources)) as advance:
                for source in sources:
                    yield Picture(read_image(source.read(), name=source.ref), source.ref)
                    advance()

    def _generated(self, file: Path) -> Iterator[Picture]:
        from steerclear.calibrate import Picture, draw_picture
        from steerclear.pipelines import load_pipeline

        prompts = read_prompts((), file)
        if self.pipe is None:
            quiet_libraries()
            self.pipe = load_pipeline(model_folder(self.recipe.model) or self.recipe.model)
        grid = self._grid()
        self.settings = grid.document(self.pipe)
        with progress(f"generating from {file}", len(prompts) * len(self.seeds)) as advance:
            for prompt, seed in product(prompts, self.seeds):
                settings = grid.draw(self._drawn)
                self._drawn += 1
                image = draw_picture(self.pipe, prompt=prompt, seed=seed, settings=settings)
                yield Picture(image, f"{prompt!r}, seed {seed}, {settings}", prompt)
                advance()

    def _grid(self) -> Grid:
        from steerclear.calibrate import Grid

        steps, guidance = self.recipe.steps, self.recipe.guidance
        if self.varied:
            return Grid.around(self.pipe, steps=steps, guidance=guidance)
        return Grid((steps,), (guidance,))
