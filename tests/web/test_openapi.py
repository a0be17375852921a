"""The OpenAPI document says what the server really takes and gives: schemathesis asks whatever it allows."""

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from medcli.steps.serve import Settings
from medcli.web.app import create_app, service_of
from tests.web.fake_scheduler import FakeScheduler
from tests.web.serving import running

EXAMPLES = 25
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.missing_required_header,
    openapi_checks.unsupported_method,
]


@pytest.fixture(scope="module")
def server():
    with running(FakeScheduler(models=("echo",))) as server:
        yield server


def promises():
    """Each operation with what fits it and, where it takes a body, with what does not."""
    app = create_app(service_of(FakeScheduler(), Settings(page=False)))
    schema = schemathesis.openapi.from_dict(app.openapi())
    for operation in (found.ok() for found in schema.get_all_operations()):
        for mode in schemathesis.GenerationMode:
            if mode is schemathesis.GenerationMode.POSITIVE or operation.body:
                yield pytest.param(operation, mode, id=f"{operation.label} {mode.value}")


@pytest.mark.parametrize(("operation", "mode"), list(promises()))
def test_the_server_keeps_its_word(server, operation, mode):
    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        case.call_and_validate(base_url=server.url, checks=CHECKS)

    ask()


def test_the_document_names_what_openai_s_clients_expect(server):
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert document["info"]["description"].startswith("以下内容由模型生成")
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert {"200", "400", "401", "404", "408", "413", "429", "500", "503"} <= chat["responses"].keys()
    assert "422" not in chat["responses"]
    assert chat["responses"]["429"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorReply")
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert "text/event-stream" in chat["responses"]["200"]["content"]


def test_with_keys_the_document_says_so():
    app = create_app(service_of(FakeScheduler(), Settings(page=False)), ("key",))
    paths = app.openapi()["paths"]
    assert paths["/v1/models"]["get"]["security"] == [{"key": []}]
    assert "security" not in paths["/health"]["get"]
