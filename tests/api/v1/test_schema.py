"""Strangers' calls: schemathesis makes them up from /openapi.json, right and wrong ones, and finds nothing."""

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from support.process import BrokerProcess, start_broker


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(context: schemathesis.SerializationContext, value: object) -> bytes:
    """Whatever was made up, as lines."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


KEY = "a key for those who try everything out"
EXAMPLES = int(os.environ.get("ROOKERY_TEST_SCHEMA_EXAMPLES", "2"))  # of each call; more find more
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("schema")
    config = folder / "rookery.toml"
    config.write_text(f'[api]\nrequire_key = true\nadmin_key = "{KEY}"\nbackup_dir = "{folder}/backups"\n')
    with start_broker("--config", str(config), "--data", str(folder / "data")) as started:
        yield started


def description(broker: BrokerProcess) -> dict[str, object]:
    with urllib.request.urlopen(f"http://{broker.api}/openapi.json", timeout=10) as answer:
        loaded: dict[str, object] = json.load(answer)
    return loaded


def test_nothing_is_found(broker: BrokerProcess) -> None:
    schema = schemathesis.openapi.from_dict(description(broker))
    schema.config.update(base_url=f"http://{broker.api}")
    headers = {"authorization": f"Bearer {KEY}"}
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path.endswith("/trace"):
            continue  # It does not end by itself.
        tried += 1

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def call(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=10)

        call()
    assert tried > 30


def test_calls_of_bifromq_are_described_with_their_headers(broker: BrokerProcess) -> None:
    paths: Any = description(broker)["paths"]
    assert {name: sorted(paths[name]) for name in paths if not name.startswith("/v1/")} == {
        "/pub": ["post"],
        "/retain": ["delete", "post"],
        "/session": ["delete", "get"],
        "/session/inbox": ["get"],
        "/kill": ["delete"],
        "/sub": ["put"],
        "/unsub": ["delete"],
        "/healthz": ["get"],
        "/readyz": ["get"],
        "/metrics": ["get"],
    }
    headers = {each["name"]: each["required"] for each in paths["/pub"]["post"]["parameters"]}
    assert headers == {
        "tenant_id": True,
        "topic": True,
        "qos": True,
        "client_type": True,
        "expiry_seconds": False,
        "verbose": False,
    }


def test_every_route_of_v1_is_described(broker: BrokerProcess) -> None:
    described = description(broker)
    assert described["openapi"] == "3.1.0"
    paths = described["paths"]
    assert isinstance(paths, dict)
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert "default" in operation["responses"], (method, path)
            for parameter in operation["parameters"]:
                assert parameter["in"] == "path" or parameter.get("schema"), (method, path)


def test_page_loads_nothing_from_elsewhere(broker: BrokerProcess) -> None:
    for path in ("/docs", "/docs.js"):
        with urllib.request.urlopen(f"http://{broker.api}{path}", timeout=10) as answer:
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            text = answer.read().decode()
        assert "http://" not in text
        assert "https://" not in text


def test_files_of_the_page_are_packaged(pytestconfig: pytest.Config) -> None:
    static = Path(pytestconfig.rootpath) / "api" / "static"
    assert {file.name for file in static.iterdir()} == {"docs.html", "docs.js"}
    assert '"static/*"' in (Path(pytestconfig.rootpath) / "pyproject.toml").read_text()
