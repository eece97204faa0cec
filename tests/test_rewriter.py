"""A rewriter of the caller's own proposes texts; the example of the documentation asks a real server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from steerclear import Guard
from steerclear.errors import ConfigError
from steerclear.nudge.ladder import Ladder, strategies
from steerclear.testing import MockFilter, tiny_pipeline
from steerclear.types import Outcome

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "rewriter.md"
FAST = {"num_inference_steps": 3, "guidance_scale": 4.0}


@pytest.fixture
def server():
    """A chat server on this machine; `asked` holds what it was asked, `answer` is what it says."""
    state = SimpleNamespace(asked=[], answer="1. a quiet owl\n2. a small owl in the snow\n", status=200)

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps({"choices": [{"message": {"content": state.answer}}]}).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1/chat/completions"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def chat_rewriter(server, tmp_path):
    """The rewriter that the page defines, which asks that server."""
    text = PAGE.read_text().split('```python title="my_rewriter.py"\n')[1].split("```")[0]
    (tmp_path / "my_rewriter.py").write_text(text)
    spec = spec_from_file_location("my_rewriter", tmp_path / "my_rewriter.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ChatRewriter(url=server.url)


def flagged_twice(rewriter: Any) -> Guard:
    """A guard that flags the first picture and the first rung's, and nothing after."""
    verdicts = iter([True, True])
    return Guard(
        tiny_pipeline("sd1"),
        [MockFilter(lambda image: next(verdicts, False))],
        rewriter=rewriter,
        ladder=Ladder(strategies(["rewrite", "rewrite"])),
    )


def test_a_servers_texts_are_drawn_in_turn_until_one_passes(server, chat_rewriter):
    guard = flagged_twice(chat_rewriter)
    report = guard("the acme fox", generator=torch.Generator().manual_seed(0), **FAST).reports[0]
    assert report.outcome is Outcome.STEERED
    said = [attempt.stopped for attempt in report.attempts]
    assert {"prompt rewritten to 'a quiet owl'", "prompt rewritten to 'a small owl in the snow'"} == set(said)
    assert "the acme fox" in server.asked[0]["messages"][0]["content"]


def test_a_server_that_fails_costs_a_warning_and_the_guards_own_texts_follow(server, chat_rewriter):
    server.status = 500
    guard = flagged_twice(chat_rewriter)
    with pytest.warns(RuntimeWarning, match="the rewriter failed: HTTPError"):
        report = guard("the acme fox", generator=torch.Generator().manual_seed(0), **FAST).reports[0]
    assert report.outcome is Outcome.STEERED
    assert all("fox" in attempt.stopped for attempt in report.attempts)


def test_what_cannot_be_called_is_no_rewriter():
    with pytest.raises(ConfigError, match="rewriter is 'owl'"):
        Guard(tiny_pipeline("sd1"), [MockFilter()], rewriter="owl")
