"""Spans by the real OpenTelemetry SDK in a real kernel, kept in memory or sent by OTLP; and nothing of it where it is not used."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kernels import Kernel, start

pytest.importorskip("opentelemetry.sdk.trace", reason="the OpenTelemetry SDK is not installed: pip install 'bacalhau_magic[otel]'")

SET_UP = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)

def spans():
    found = [{'name': s.name, 'id': s.context.span_id, 'trace': s.context.trace_id, 'parent': s.parent.span_id if s.parent else None,
              'status': s.status.status_code.name, 'facts': dict(s.attributes), 'events': [(e.name, dict(e.attributes)) for e in s.events],
              'text': s.to_json()} for s in kept.get_finished_spans()]
    kept.clear()
    return found
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """A kernel whose program traces."""
    made = start(live=False)
    ran = made.run(SET_UP)
    assert ran.error is None, ran.text
    yield made
    made.stop()


def spans(kernel: Kernel) -> dict[str, dict[str, Any]]:
    """The spans since the last call, by name."""
    value = kernel.run("spans()").value
    assert value is not None
    return {found["name"]: found for found in ast.literal_eval(value)}


def test_spans_of_a_cell(kernel: Kernel) -> None:
    """A cell is one span with pack, submit, wait, collect and bind in it, below the program's own span; polls are events of the wait."""
    cell = "with trace.get_tracer('mine').start_as_current_span('mine'):\n    get_ipython().run_cell_magic('bacalhau', '-o x', 'x = 1')"
    assert kernel.run(cell).error is None
    found = spans(kernel)
    assert set(found) == {"mine", *(f"bacalhau.{part}" for part in ("job", "pack", "submit", "wait", "collect", "bind"))}
    job = found["bacalhau.job"]
    assert job["parent"] == found["mine"]["id"]
    assert {found[f"bacalhau.{part}"]["parent"] for part in ("pack", "submit", "wait", "collect", "bind")} == {job["id"]}
    assert len({span["trace"] for span in found.values()}) == 1
    polls = [facts for name, facts in found["bacalhau.wait"]["events"] if name == "poll"]
    assert polls
    assert polls[-1]["bacalhau.over"] is True
    assert job["facts"]["bacalhau.job.id"] == found["bacalhau.submit"]["facts"]["bacalhau.job.id"]
    assert job["facts"]["bacalhau.language"] == "python"
    assert found["bacalhau.submit"]["facts"]["bacalhau.payload.size"] > 0


def test_trace_goes_on_in_the_job(kernel: Kernel) -> None:
    """The job's environment has TRACEPARENT of the cell's own span; one that the user gives stays."""
    ran = kernel.run("%%bacalhau\nimport os\nos.environ['TRACEPARENT']")
    job = spans(kernel)["bacalhau.job"]
    assert ran.value is not None
    assert ran.value.startswith(f"'00-{job['trace']:032x}-{job['id']:016x}-")
    assert kernel.run("%%bacalhau -e TRACEPARENT=mine\nimport os\nos.environ['TRACEPARENT']").value == "'mine'"
    spans(kernel)


def test_failure_has_no_text_of_the_users(kernel: Kernel) -> None:
    """A failed cell's span is failed by its error's class; neither code, value, environment nor message stands in a span."""
    ran = kernel.run("%%bacalhau -e TOKEN=hidden-env\nraise ValueError('hidden-' + 'text')  # hidden-code")
    assert ran.error is not None
    found = spans(kernel)
    assert (found["bacalhau.job"]["status"], found["bacalhau.wait"]["status"]) == ("ERROR", "UNSET")
    assert "ValueError" in found["bacalhau.job"]["facts"]["error.type"]
    assert "bacalhau.bind" not in found
    assert "hidden-" not in "".join(span["text"] for span in found.values())


def test_background_job(kernel: Kernel) -> None:
    """A background job's spans are whole too, and its bind, whenever it comes, belongs to it."""
    kernel.run("%%bacalhau --bg --job j -o y\ny = 2")
    kernel.run("%bacalhau wait last")
    assert kernel.run("y").value == "2"
    found = spans(kernel)
    assert found["bacalhau.bind"]["parent"] == found["bacalhau.job"]["id"]
    assert found["bacalhau.bind"]["trace"] == found["bacalhau.job"]["trace"]


def test_nothing_where_it_is_not_used(batch: Kernel) -> None:
    """In a program that does not trace nothing of OpenTelemetry is imported, and a job has no TRACEPARENT."""
    ran = batch.run("%%bacalhau -o found\nimport os\nfound = [name for name in os.environ if name.startswith('TRACE')]")
    assert ran.error is None, ran.text
    assert batch.run("found, [name for name in __import__('sys').modules if name.startswith('opentelemetry')]").value == "([], [])"


# A collector, as a cluster's operator has one

EXPORTING = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider(resource=Resource.create({'service.name': 'a notebook'}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint='{url}/v1/traces')))
trace.set_tracer_provider(provider)
"""


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector of OTLP over HTTP: its address, and the decoded requests that it was sent."""
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the OTLP exporter is not installed")
    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            taken.append(service.ExportTraceServiceRequest.FromString(body))
            answer = service.ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        server.server_close()


def test_a_collector_gets_a_cells_spans() -> None:
    """Exported by OTLP over HTTP, a cell's spans reach a collector with their names, parents and polls, and carry nothing of the user's."""
    with collector() as (url, taken):
        made = start(live=False)
        try:
            assert made.run(EXPORTING.replace("{url}", url)).error is None
            assert made.run("%%bacalhau -o x -e TOKEN=hidden-env\nx = 'hidden-' + 'value'  # hidden-code").error is None
            assert made.run("provider.force_flush()").value == "True"
        finally:
            made.stop()
    sent = [resource for request in taken for resource in request.resource_spans]
    found = {
        span.name: span
        for resource in sent
        for scope in resource.scope_spans
        if scope.scope.name == "bacalhau_magic"
        for span in scope.spans
    }
    assert set(found) == {f"bacalhau.{part}" for part in ("job", "pack", "submit", "wait", "collect", "bind")}
    job = found["bacalhau.job"]
    assert {span.parent_span_id for name, span in found.items() if name != "bacalhau.job"} == {job.span_id}
    assert all(job.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in found.values())
    assert "poll" in {event.name for event in found["bacalhau.wait"].events}
    facts = {fact.key: fact.value for fact in job.attributes}
    assert facts["bacalhau.job.id"].string_value.startswith("j-")
    assert {fact.value.string_value for resource in sent for fact in resource.resource.attributes if fact.key == "service.name"} == {
        "a notebook"
    }
    assert "hidden-" not in str(taken)
