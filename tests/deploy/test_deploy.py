"""What deploys the server: linted, held against the program itself, and the Debian script run for real.

There is no container engine here: that the image builds is not tested, but that its files are enough to build
the package is.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import typer
import yaml

from steerclear.cli import app
from steerclear.serve.settings import ServeSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "steerclear.service").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CUDA = yaml.safe_load((DEPLOY / "compose.cuda.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
SCRIPT = DEPLOY / "install-debian.sh"
EXPOSURE = 25  # tenths, as systemd-analyze rates a unit; without any hardening it is 96
PATIENCE = 120.0
PACKAGES = sysconfig.get_path("purelib")  # of this environment
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="the script makes a user, which only root may")
needs_systemd = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and shutil.which("systemd-sysusers")), reason="systemd is not here"
)


def lint(*command: object) -> None:
    """Run a linter of this environment, which has nothing to say."""
    words = [str(Path(sys.executable).with_name(str(command[0]))), *map(str, command[1:])]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The values that a command line of steerclear gives; a usage error for what it does not know."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="steerclear")
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, arguments)
        context = command.context_class(command, info_name=name, parent=context)
    values: dict[str, Any] = command.make_context(context.info_name, arguments, parent=context.parent).params
    return values


def of_unit(name: str) -> str:
    """The value of a setting of the unit."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(value)


def of_image(word: str) -> list[str]:
    """The words of an instruction in exec form."""
    (words,) = re.findall(rf"^{word} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return [str(part) for part in yaml.safe_load(words)]


def test_hadolint_has_nothing_to_say_about_the_dockerfile():
    lint("hadolint", DEPLOY / "Dockerfile")


def test_shellcheck_has_nothing_to_say_about_the_script():
    lint("shellcheck", SCRIPT)


def test_the_compose_files_are_of_the_schema_of_compose():
    files = sorted(DEPLOY.glob("compose*.yaml"))
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


@needs_systemd
def test_systemd_understands_the_unit_and_rates_it_as_shut_off(tmp_path):
    unit = tmp_path / "steerclear.service"
    unit.write_text(UNIT.replace("/opt/steerclear/bin/steerclear", "/bin/true"))  # it must be there
    for verb in (("verify", "--man=no"), ("security", "--offline=true", f"--threshold={EXPOSURE}")):
        run = subprocess.run(["systemd-analyze", *verb, unit], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "Unknown" not in run.stderr, run.stderr


def test_every_command_line_is_one_that_steerclear_understands(monkeypatch):
    monkeypatch.setenv("STEERCLEAR_DATABASE", "records.db")
    assert of_image("ENTRYPOINT") == ["steerclear"]
    image = parsed(of_image("CMD"))
    server = parsed(COMPOSE["services"]["server"]["command"])
    assert (image["host"], image["model"], image["library"]) == ("0.0.0.0", "/models/model", "/library")
    assert {name: server[name] for name in ("host", "model", "library")} == {
        name: image[name] for name in ("host", "model", "library")
    }
    assert parsed(CUDA["services"]["server"]["command"]) == server | {"device": ["cuda"]}
    parsed(COMPOSE["services"]["upgrade"]["command"])
    _, *words = shlex.split(of_unit("ExecStart"))
    assert words[-1] == "$STEERCLEAR_OPTIONS"
    assert parsed(words[:-1])["drain"] == 60


def test_what_stops_the_server_waits_longer_than_it_drains():
    drain = parsed(COMPOSE["services"]["server"]["command"])["drain"]
    assert int(COMPOSE["services"]["server"]["stop_grace_period"].removesuffix("s")) > drain
    assert int(of_unit("TimeoutStopSec")) > ServeSettings.drain
    assert of_unit("KillMode") == "mixed"


def test_prometheus_asks_the_server_where_it_listens():
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    assert int(port) == parsed(COMPOSE["services"][name]["command"])["port"]
    assert re.search(rf"^EXPOSE {port}$", DOCKERFILE, re.MULTILINE)


def test_nothing_runs_as_root_nor_is_downloaded_at_start():
    stages = DOCKERFILE.split("\nFROM ")
    assert re.search(r"^USER 10001:10001$", stages[-1], re.MULTILINE)
    assert "HF_HUB_OFFLINE=1" in stages[-1]
    assert not re.search(r"pip install|apt-get|curl|wget", stages[-1])
    for name in ("server", "upgrade"):
        service = COMPOSE["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert COMPOSE["services"]["server"]["volumes"][0].endswith(":ro")
    assert "User=steerclear" in UNIT


def test_the_extras_that_are_installed_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for text in (DOCKERFILE, SCRIPT.read_text()):
        (named,) = re.findall(r"^(?:ARG EXTRAS=|package=.* extras=)(\S+)$", text, re.MULTILINE)
        assert set(named.split(",")) <= set(extras)
        assert {"serve", "postgres"} <= set(named.split(","))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from the files that the image copies and nothing else."""
    folder = tmp_path_factory.mktemp("image")
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert source in kept, f"{source} is not sent to the builder: see .dockerignore"
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, folder / source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", folder / "wheel"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, folder], check=True)
    (built,) = (folder / "wheel").glob("*.whl")
    return built


@pytest.mark.slow
def test_what_the_image_copies_is_enough_to_build_the_package(wheel):
    assert wheel.name.startswith("steerclear-")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that other users may enter, for the user that the script makes."""
    folder = Path(tempfile.mkdtemp(prefix="steerclear-deploy-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def install(root: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the script below a folder, offline; what the package needs is taken from this environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PYTHONPATH": PACKAGES, "PATH": path}
    return subprocess.run(
        [SCRIPT, "--root", root, *map(str, words)],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
    )


def answers(log: Path) -> bool:
    """Whether the server that writes this log can take requests, its model loaded."""
    said = re.search(r"listening on (\S+);", log.read_text())
    try:
        return said is not None and urlopen(f"{said[1]}/readyz").status == 200
    except URLError:  # 503 until then, or not even listening
        return False


@pytest.mark.slow
@needs_root
@needs_systemd
def test_the_script_installs_a_service_that_serves_and_drains(scratch, wheel):
    package = scratch / wheel.name
    shutil.copy(wheel, package)
    root = scratch / "root"
    words = ("--model", "embedded", "--library", "embedded", "--package", package, "--port", 8123)
    run = install(root, *words, "--key", "first")
    assert run.returncode == 0, run.stderr
    assert re.search(r"^sck_\S+$", run.stdout, re.MULTILINE), "the key's secret"
    user = next(x for x in (root / "etc/passwd").read_text().splitlines() if x.startswith("steerclear:"))
    state = (root / "var/lib/steerclear").stat()
    assert (state.st_uid, oct(state.st_mode & 0o777)) == (int(user.split(":")[2]), "0o700")
    database = root / "var/lib/steerclear/records.db"
    assert database.stat().st_uid == state.st_uid
    assert (root / "etc/systemd/system/steerclear.service").read_text() == UNIT

    # what the unit would start, as the user that it would start it as where that user can reach Python
    settings = (root / "etc/steerclear/environment").read_text()
    environment = dict(line.split("=", 1) for line in settings.splitlines() if not line.startswith("#"))
    options = environment.pop("STEERCLEAR_OPTIONS").replace("--port 8123", "--port 0").split()
    environment["STEERCLEAR_DATABASE"] = f"{root}{environment['STEERCLEAR_DATABASE']}"
    program, *start = shlex.split(of_unit("ExecStart"))
    as_user = []
    if all(folder.stat().st_mode & 0o001 for folder in Path(sys.executable).resolve().parents):
        # the worker's process is started from the interpreter, which may lie in root's own folder
        as_user = ["setpriv", "--reuid", str(state.st_uid), "--regid", str(state.st_gid), "--clear-groups"]
    log = scratch / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [*as_user, f"{root}{program}", *start[:-1], *options],
            env={**os.environ, **environment, "PYTHONPATH": PACKAGES},
            cwd=root / "var/lib/steerclear",
            stderr=stream,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not answers(log):
            assert time.monotonic() < end, log.read_text()
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()

    # once more: what the administrator has written stays
    (root / "etc/steerclear/environment").write_text("STEERCLEAR_OPTIONS=--model embedded\n")
    assert install(root, *words).returncode == 0
    assert (root / "etc/steerclear/environment").read_text() == "STEERCLEAR_OPTIONS=--model embedded\n"


@needs_root
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--model"),
        (("--model", "embedded"), "--library"),
        (("--model", "nowhere", "--library", "embedded"), "nothing is downloaded"),
        (("--model", "embedded", "--library", "embedded", "--port", "x"), "--port is x"),
        (("--model", "embedded", "--library", "embedded", "--device", "tpu"), "--device is tpu"),
        (("--models", "embedded"), "--models"),
        (("--model",), "needs a value"),
    ],
)
def test_the_script_refuses_what_it_cannot_use_before_it_changes_anything(tmp_path, words, says):
    run = install(tmp_path / "root", *words)
    assert run.returncode == 2
    assert says in run.stderr
    assert not (tmp_path / "root").exists()
