"""Names resolve to what ships inside and to what other packages register, and no file decides what is
imported.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from steerclear import plugins
from steerclear.cli.library import app as library_app
from steerclear.encoders import load_encoder
from steerclear.errors import ConfigError, EncoderError
from steerclear.filters.library import FilterParts, named_filters
from steerclear.library import Library, add
from steerclear.loading import guard_parts, open_encoders
from steerclear.nudge.ladder import strategies
from steerclear.testing import FakeEncoder, tiny_pipeline

ENTRY_POINTS = """
[steerclear.filters]
loud = acme_plugin:LoudFilter
nearest = acme_plugin:LoudFilter
broken = acme_broken:Filter

[steerclear.encoders]
tinted = acme_plugin:tinted

[steerclear.strategies]
flip = acme_plugin:Flip

[steerclear.commands]
hello = acme_plugin:hello
"""
PLUGIN = """
from steerclear.testing import FakeEncoder, MockFilter

class LoudFilter(MockFilter):
    def __init__(self):
        super().__init__(True, name="loud")

def tinted(source, name, device):
    return FakeEncoder(name=name)

class Flip:
    name = "flip"
    def apply(self, task, seed):
        raise NotImplementedError

class Holder:
    flip = Flip

ENCODER = FakeEncoder(name="acme_plugin:ENCODER")

def hello():
    "Say hello."
    print("hello from a plugin")
"""
OBJECTS = [
    ("filter", "loud", "LoudFilter"),
    ("encoder", "tinted", "tinted"),
    ("strategy", "flip", "Flip"),
    ("command", "hello", "hello"),
]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the import path with an installed package `acme-plugin`, and a broken one."""
    folder = tmp_path / "site"
    metadata = folder / "acme_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "acme_plugin.py").write_text(PLUGIN)
    (folder / "acme_broken.py").write_text("raise RuntimeError('no licence key')\n")
    monkeypatch.syspath_prepend(folder)
    plugins._registered.cache_clear()
    yield folder
    plugins._registered.cache_clear()
    for module in ("acme_plugin", "acme_broken"):
        sys.modules.pop(module, None)


@pytest.fixture
def parts():
    return FilterParts(library=None, encoders=[])


@pytest.fixture
def library(site, tmp_path):
    """A calibrated library whose metadata names an encoder as `module:object`."""
    encoder = FakeEncoder(name="acme_plugin:ENCODER")
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "disc.png")
    library = Library.create(tmp_path / "library", [encoder])
    add(library, tmp_path / "disc.png", [encoder])
    library.write_note("calibration", {"thresholds": {"nearest": 0.9, "pixel": 0.9, "tiled": 0.9}})
    return library


@pytest.mark.parametrize("kind", plugins.GROUPS)
def test_every_name_that_ships_inside_resolves(kind):
    assert all(callable(plugins.load(kind, name)) for name in plugins.names(kind))


@pytest.mark.parametrize(("kind", "name", "attribute"), OBJECTS)
def test_what_another_package_registers_resolves_by_its_name_and_as_module_and_object(
    site, kind, name, attribute
):
    import acme_plugin

    assert name in plugins.names(kind)
    assert plugins.load(kind, name) is getattr(acme_plugin, attribute)
    assert plugins.load(kind, f"acme_plugin:{attribute}") is getattr(acme_plugin, attribute)


def test_an_object_inside_an_object_resolves(site):
    assert plugins.load("strategy", "acme_plugin:Holder.flip").name == "flip"


def test_another_package_cannot_take_a_name_of_the_product(site):
    from steerclear.filters.library import nearest

    assert plugins.load("filter", "nearest") is nearest


@pytest.mark.parametrize("kind", plugins.GROUPS)
def test_the_error_for_an_unknown_name_lists_what_there_is(site, kind):
    with pytest.raises(ConfigError, match=f"unknown {kind} 'nonsense'") as caught:
        plugins.load(kind, "nonsense")
    assert ", ".join(plugins.names(kind)) in str(caught.value)
    assert "module:object" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken", "RuntimeError: no licence key"),
        ("acme_broken:Filter", "RuntimeError: no licence key"),
        ("acme_absent:Filter", "No module named 'acme_absent'"),
        ("acme_plugin:Absent", "no attribute 'Absent'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_error_with_its_cause(site, parts, name, cause):
    with pytest.raises(ConfigError, match=cause) as caught:
        named_filters(name, parts)
    assert f"the filter {name!r} cannot be imported" in str(caught.value)


@pytest.mark.parametrize("name", ["loud", "acme_plugin:LoudFilter"])
def test_a_registered_filter_is_made_and_checks(site, parts, name):
    (filter_,) = named_filters(name, parts)
    assert [d.flagged for d in filter_.check(torch.zeros(2, 3, 8, 8))] == [True, True]


def test_an_object_that_is_no_filter_is_refused(site, parts):
    with pytest.raises(ConfigError, match="is no filter"):
        named_filters("acme_plugin:Flip", parts)


def test_a_registered_encoder_gets_its_source_and_a_custom_one_must_have_its_own_name(site):
    assert load_encoder("tinted:red").name == "tinted:red"
    assert load_encoder("acme_plugin:ENCODER").name == "acme_plugin:ENCODER"
    with pytest.raises(EncoderError, match="gives no encoder"):
        load_encoder("acme_plugin:Flip")
    with pytest.raises(EncoderError, match="no licence key"):
        load_encoder("acme_broken:ENCODER")


def test_a_strategy_is_taken_by_either_name(site):
    assert [strategy.name for strategy in strategies(("flip", "acme_plugin:Flip", "rewrite"))] == [
        "flip",
        "flip",
        "rewrite",
    ]


def test_a_registered_command_runs(site):
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from steerclear.cli import main; main(['hello'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "hello from a plugin\n", result.stderr


def test_a_library_does_not_decide_what_is_imported(library):
    with pytest.raises(ConfigError, match="'acme_plugin', which no installed package registers"):
        open_encoders(library)
    with pytest.raises(ConfigError, match="If you trust it, pass encoder="):
        guard_parts(tiny_pipeline(), library)
    assert "acme_plugin" not in sys.modules


def test_a_guard_imports_the_encoder_that_its_user_names(library):
    parts = guard_parts(tiny_pipeline(), library, encoder="acme_plugin:ENCODER")
    assert "acme_plugin" in sys.modules
    assert parts.encoder.name == "acme_plugin:ENCODER"
    assert parts.filters[0].encoder is parts.encoder


@pytest.mark.parametrize("command", ["add", "search"])
def test_the_command_line_imports_only_what_its_user_names(library, tmp_path, command):
    words = [command, str(tmp_path / "disc.png"), "--library", library.uri]
    result = CliRunner().invoke(library_app, words)
    assert result.exit_code == 2
    assert "which no installed package registers" in result.stderr
    assert "acme_plugin" not in sys.modules
    result = CliRunner().invoke(library_app, [*words, "--encoder", "acme_plugin:ENCODER"])
    assert result.exit_code == 0, result.output
    assert "acme_plugin" in sys.modules
