"""No file runs code because it is read, and no name makes a request, by any door that is open to users."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import steerclear
from steerclear.cli import main
from steerclear.embedded import LIBRARY_FOLDER
from steerclear.errors import SteerclearError
from steerclear.library import read_image

ROOT = Path(steerclear.__file__).parents[2]

# ── what the source may not say ─────────────────────────────────────────────────────────────────────────────

# a call's name, or the end of it after a dot
FORBIDDEN = (
    *("eval", "exec", "execfile", "__import__", "os.system", "os.popen", "pty.spawn"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "_pickle.load", "shelve.open"),
    *("cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads", "joblib.load", "marshal.load"),
    *("marshal.loads", "read_pickle", "jit.load", "hub.load", "package.PackageImporter", "jsonpickle.decode"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "unpack_archive", "tempfile.mktemp"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "urlopen", "urlretrieve", "runpy.run_path"),
)
# of these the keyword must be there, with this value
DEMANDED = {
    "torch.load": ("weights_only", "True"),
    "np.load": ("allow_pickle", "False"),
    "extractall": ("filter", "'data'"),
}
# what no call may be told
TOLD = {"trust_remote_code": "False", "shell": "False", "allow_pickle": "False", "weights_only": "True"}
ALLOWED = {
    ("src/steerclear/encoders/pretrained.py", "torch.jit.load"),  # of a file that the user names and trusts
    ("src/steerclear/library/distributed.py", "cloudpickle.loads"),  # of what our own process has packed
    (
        "lab/src/steerclear_lab/bench/reference_pictures.py",
        "urllib.request.urlopen",
    ),  # of a user's list
}


def calls(tree: ast.AST) -> list[tuple[str, dict[str, str]]]:
    return [
        (ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg})
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def unsafe(source: str) -> set[str]:
    """The calls in a source that can run code from a file, or fetch one."""
    seen = set()
    for name, keywords in calls(ast.parse(source)):
        bare = {"eval", "exec", "__import__", "execfile"}  # model.eval() is another thing
        if any(name == word or (word not in bare and name.endswith(f".{word}")) for word in FORBIDDEN):
            seen.add(name)
        for word, (keyword, value) in DEMANDED.items():
            if (name == word or name.endswith(f".{word}")) and keywords.get(keyword) != value:
                seen.add(name)
        if any(keywords.get(keyword, value) != value for keyword, value in TOLD.items()):
            seen.add(name)
    return seen


def test_nothing_in_product_or_laboratory_loads_what_can_carry_code():
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "lab" / "src").rglob("*.py")]
    assert len(files) > 200
    seen = {(file.relative_to(ROOT).as_posix(), name) for file in files for name in unsafe(file.read_text())}
    assert seen == ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "pickle.loads(x)",
        "yaml.load(x)",
        "eval(text)",
        "subprocess.run(words, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "torch.jit.load(x)",
        "joblib.load(x)",
        "pandas.read_pickle(x)",
        "tar.extractall()",
        "urllib.request.urlopen(x)",
    ],
)
def test_what_counts_as_unsafe(line):
    assert unsafe(line)
    assert not unsafe("model.eval()\nnp.load(f, allow_pickle=False)\ntorch.load(f, weights_only=True)")


# ── evil files ──────────────────────────────────────────────────────────────────────────────────────────────


class Program:
    """What a pickle runs when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def arrow_of_a_program(mark):
    """A table of a type that pyarrow once unpickled to know it (CVE-2023-47248)."""
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Program(mark)),
    }
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([pa.field("image", kind), pa.field("path", pa.string(), metadata=metadata)])
    return pa.table([pa.array([{"bytes": b"x", "path": None}], kind), pa.array(["x.png"])], schema=schema)


def as_pickle(path, mark):
    path.write_bytes(pickle.dumps(Program(mark)))


def as_checkpoint(path, mark):
    torch.save({"weight": torch.zeros(2), "evil": Program(mark)}, path)


def as_old_checkpoint(path, mark):
    torch.save({"evil": Program(mark)}, path, _use_new_zipfile_serialization=False)


def as_numpy(path, mark):
    with path.open("wb") as stream:
        np.save(stream, np.array([Program(mark)], dtype=object), allow_pickle=True)


def as_yaml(path, mark):
    path.write_text(f"!!python/object/apply:os.system ['touch {mark}']\n")


def as_postscript(path, mark):
    path.write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {mark}) (w) file\n")


def as_script(path, mark):
    path.write_text(f"#!/bin/sh\ntouch {mark}\n")
    path.chmod(0o755)


def as_python(path, mark):
    path.write_text(f"open({str(mark)!r}, 'w')\n")


def as_arrow(path, mark):
    with pa.ipc.new_stream(path, arrow_of_a_program(mark).schema) as out:
        out.write_table(arrow_of_a_program(mark))


def as_parquet(path, mark):
    import pyarrow.parquet as pq

    pq.write_table(arrow_of_a_program(mark), path)


KINDS = (
    as_pickle,
    as_checkpoint,
    as_old_checkpoint,
    as_numpy,
    as_yaml,
    as_postscript,
    as_script,
    as_python,
    as_arrow,
    as_parquet,
)


def cli(*words):
    return lambda path, folder: main([str(word).format(path=path, folder=folder) for word in words])


DOORS = {
    "read_image.png": lambda path, folder: read_image(path),
    "check.png": cli("check", "{path}"),
    "add.png": cli("library", "add", "{path}", "-l", "{folder}/library"),
    "add-folder.pkl": cli("library", "add", "{folder}", "-l", "{folder}/library"),
    "add-list.txt": cli("library", "add", "{path}", "-l", "{folder}/library"),
    "add-list.csv": cli("library", "add", "{path}", "-l", "{folder}/library"),
    "add-list.parquet": cli("library", "add", "{path}", "-l", "{folder}/library"),
    "add-list.tar": cli("library", "add", "{path}", "-l", "{folder}/library"),
    "data-00000.arrow": cli("library", "add", "{folder}", "-l", "{folder}/library"),
    "captions.json": cli("library", "add", "{path}", "-l", "{folder}/library", "--captions", "{path}"),
    "sscd.pt": cli("library", "add", "{path}", "-l", "{folder}/library", "--encoder", "sscd:{path}"),
    "pytorch_model.bin": cli(
        "library", "add", "{path}", "-l", "{folder}/l", "--encoder", "transformers:{folder}"
    ),
    "model.safetensors": cli("library", "add", "{path}", "-l", "{folder}/l", "--encoder", "vae:{folder}"),
    "search.png": cli("library", "search", "{path}", "-l", LIBRARY_FOLDER),
    "library.lance": cli("library", "list", "-l", "{path}"),
    "replay.png": cli("replay", "{path}"),
    "prefer.png": cli("generate", "a fox", "--prefer", "{path}", "--out", "{folder}/out"),
    "prompts.txt": cli(
        "generate", "--prompts", "{path}", "--model", "{folder}/nowhere", "--out", "{folder}/out"
    ),
    "one.ckpt": cli("generate", "a fox", "--model", "{path}", "--out", "{folder}/out"),
    "one.safetensors": cli(
        "generate", "a fox", "--model", "{path}", "--config", "{folder}", "--out", "{folder}/o"
    ),
    "lora.bin": cli("generate", "a fox", "--lora", "{path}", "--out", "{folder}/out"),
    "clean.png": cli("calibrate", "-l", LIBRARY_FOLDER, "--clean", "{path}", "--out", "{folder}/out"),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("door", DOORS)
def test_an_evil_file_runs_nothing_by_any_door(door, kind, tmp_path, capsys):
    folder, mark = tmp_path / "folder", tmp_path / "ran"
    folder.mkdir()
    path = folder / door
    kind(path, mark)
    (folder / "config.json").write_text('{"model_type": "clip", "auto_map": {"AutoModel": "evil.Evil"}}')
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    before = set(os.listdir(folder))
    try:
        code = DOORS[door](path, folder)
        assert code != 0
    except SteerclearError:
        pass
    assert not mark.exists()
    assert {name for name in set(os.listdir(folder)) - before if "evil" in name} == set()
    assert "Traceback" not in capsys.readouterr().err


def test_these_files_do_run_code_where_they_are_loaded_without_care(tmp_path):
    mark = tmp_path / "ran"
    as_pickle(tmp_path / "a", mark)
    pickle.loads((tmp_path / "a").read_bytes()).close()
    assert mark.exists()
    mark.unlink()
    as_checkpoint(tmp_path / "b", mark)
    torch.load(tmp_path / "b", weights_only=False)["evil"].close()
    assert mark.exists()


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────

GUARDED = """
import socket, sys, time
asked = []
def refuse(*arguments, **named):
    asked.append(arguments[:2])
    raise OSError("no network here")
socket.getaddrinfo = socket.create_connection = refuse
socket.socket.connect = socket.socket.connect_ex = refuse
time.sleep = lambda seconds: None
from steerclear.encoders import load_encoder
from steerclear.errors import SteerclearError
for name in sys.argv[2:]:
    try:
        load_encoder(name, **eval(sys.argv[1]))
    except SteerclearError as error:
        print("refused", error)
print("asked", len(asked))
"""


def requests(options: str, *names: str) -> tuple[int, list[str]]:
    online = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    }
    run = subprocess.run(
        [sys.executable, "-c", GUARDED, options, *names],
        capture_output=True,
        text=True,
        check=True,
        env=online,
    )
    *refused, last = run.stdout.splitlines()
    return int(last.split()[1]), refused


def test_an_encoder_of_a_hub_is_asked_for_only_where_the_user_says_so():
    names = ("transformers:attacker/model", "vae:attacker/model")
    asked, refused = requests("{}", *names)
    assert asked == 0
    assert all("--allow-download" in line for line in refused)
    assert len(refused) == 2
    assert requests("{'allow_download': True}", names[0])[0] > 0
