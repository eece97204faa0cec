"""Spans of OpenTelemetry, where it is installed and where it is not."""

from __future__ import annotations

import subprocess
import sys

# in a process of its own: a provider is set once for all
PROGRAM = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
from steerclear.serve.tracing import span

with span("pictures", n=2) as traced:
    traced(outcomes=["clear", "steered"])
(finished,) = exporter.get_finished_spans()
assert finished.name == "steerclear.pictures"
assert dict(finished.attributes) == {"steerclear.n": 2, "steerclear.outcomes": ("clear", "steered")}
"""
WITHOUT = """
import sys

sys.modules["opentelemetry"] = None
from steerclear.serve.tracing import span

with span("pictures", n=2) as traced:
    traced(outcomes=["clear"])
"""


def test_a_request_is_a_span_with_its_outcomes() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=300)


def test_without_the_extra_nothing_is_traced_and_nothing_fails() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True, timeout=300)
