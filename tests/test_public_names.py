"""What `import steerclear` gives: every public name, without torch; and names that have moved."""

from __future__ import annotations

import subprocess
import sys

import pytest

import steerclear
from steerclear import embedded
from steerclear.encoders import load_encoder
from steerclear.errors import SteerclearError


@pytest.mark.parametrize("name", steerclear.__all__)
def test_every_public_name_resolves_and_is_listed(name):
    assert getattr(steerclear, name) is not None
    assert name in dir(steerclear)


def test_every_error_is_public():
    def below(error):
        return {error}.union(*map(below, error.__subclasses__()))

    ours = {e.__name__ for e in below(SteerclearError) if e.__module__ == "steerclear.errors"}
    assert ours <= set(steerclear.__all__)


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'Guardian'"):
        steerclear.Guardian  # noqa: B018


def test_importing_steerclear_loads_no_torch():
    code = "import sys, steerclear; dir(steerclear); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_that_the_documentation_has_shown_are_forwarded():
    with pytest.warns(DeprecationWarning, match="has moved to steerclear.embedded.MODEL_FOLDER"):
        from steerclear.emoji import MODEL_FOLDER
    with pytest.warns(DeprecationWarning, match="has moved to steerclear.filters.pixel.AllPictures"):
        from steerclear.filters.pixel import Everything
    from steerclear.filters.base import to_tensor
    from steerclear.loading import library_filters, open_encoders
    from steerclear.nudge.ladder import strategies

    assert MODEL_FOLDER == embedded.MODEL_FOLDER
    assert Everything is steerclear.AllPictures
    assert strategies is steerclear.strategies
    assert callable(to_tensor)
    library = steerclear.Library.open(embedded.LIBRARY_FOLDER)
    with pytest.warns(DeprecationWarning, match="Guard.wrap"):
        filters = library_filters(library, open_encoders(library), "strict")
    assert [f.name for f in filters] == ["strict nearest", "strict pixel", "strict tiled", "strict copy"]
    assert load_encoder is steerclear.load_encoder


def python_m(*arguments, before="pass"):
    """`python -m …` in a process of its own, after a line of Python."""
    module, *rest = arguments
    code = f"{before}\nimport runpy, sys; sys.argv[1:] = {rest}; runpy._run_module_as_main({module!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["main_job", "experiments"])  # a file and a folder
def test_a_command_of_the_benchmarks_works_at_its_old_place_and_says_where_it_lives_now(module):
    result = python_m(f"steerclear.bench.{module}", "--help")
    assert result.returncode == 0
    assert f"python -m steerclear_lab.bench.{module}" in result.stdout
    (warning,) = result.stderr.splitlines()
    assert "steerclear.bench has moved to steerclear_lab.bench" in warning


def test_a_command_of_the_benchmarks_says_what_to_install_where_the_laboratory_is_missing():
    result = python_m("steerclear.bench.main_job", before="import sys; sys.modules['steerclear_lab'] = None")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "run: pip install steerclear-lab" in line


def test_a_name_that_has_never_been_there_is_not_forwarded():
    from steerclear import emoji

    with pytest.raises(AttributeError, match="has no attribute 'cook'"):
        emoji.cook  # noqa: B018
