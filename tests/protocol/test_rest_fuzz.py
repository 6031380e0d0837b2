"""REST against what its own OpenAPI document allows and forbids: every answer is one that the document names.

Never a 500, never an answer of another shape, and the flow works afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from flow_party import TOKEN
from flow_thread import FlowThread
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NOT_FOR_HTTPX = (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError)
"""What a client refuses to send."""


@schemathesis.serializer("application/zip")
def _archive(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[FlowThread]:
    with FlowThread() as running:
        yield running


def _fuzz(fuzzed: FlowThread, examples: int, *, is_repeatable: bool) -> None:
    transport = httpx.HTTPTransport(uds=fuzzed.party.settings.rest.removeprefix("unix:"))
    with httpx.Client(base_url="http://flow", transport=transport, timeout=20) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        faults = []
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    _fuzz_operation(fuzzed.jobs, client, operation, mode, examples, is_repeatable=is_repeatable)
                except (FailureGroup, Failure) as exc:
                    faults.append(f"{operation.label}, {mode.value}: {exc}")
        assert not faults, "\n\n".join(faults)
    assert fuzzed.works()


def _fuzz_operation(
    jobs: list[str],
    client: httpx.Client,
    operation: Any,
    mode: GenerationMode,
    examples: int,
    *,
    is_repeatable: bool,
) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=is_repeatable,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
    )
    @given(case=operation.as_strategy(generation_mode=mode), job=st.sampled_from([None, *jobs]))
    def answered(case: Any, job: str | None) -> None:
        if job is not None and "job_id" in (case.path_parameters or {}):
            case.path_parameters["job_id"] = job
        query = case.query if isinstance(case.query, dict) else {}
        for name, endless in (("wait_s", "0"), ("follow", "false")):  # the job does not end before the test does
            if name in query:
                query[name] = endless
        answer = _sent(client, case)
        if answer is not None:
            case.validate_response(answer, checks=CHECKS)

    with suppress(Unsatisfiable):
        answered()


def _sent(client: httpx.Client, case: Any) -> httpx.Response | None:
    words = case.as_transport_kwargs(base_url="http://flow")
    shown = {key: value for key, value in (words.get("headers") or {}).items() if key.lower() != "authorization"}
    words["headers"] = shown | {"authorization": f"Bearer {TOKEN}"}  # who lets nobody in is not tested here
    content = words.pop("data", None)
    if content is not None:
        words["content"] = content if isinstance(content, bytes | str) else str(content)
    words.pop("cookies", None)
    with suppress(*NOT_FOR_HTTPX):
        return client.request(**{key: value for key, value in words.items() if value is not None})
    return None


def test_rest_answers_as_its_document_says(fuzzed: FlowThread) -> None:
    _fuzz(fuzzed, 8, is_repeatable=True)


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_rest_answers_as_its_document_says_at_length(fuzzed: FlowThread) -> None:
    _fuzz(fuzzed, 300, is_repeatable=False)
