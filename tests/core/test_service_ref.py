"""A service is named by its address and a model's name; keys do not belong there."""

import pytest

from medcli.core.errors import UsageError
from medcli.core.service_ref import ServiceRef, service_of


@pytest.mark.parametrize(
    ("ref", "url", "model"),
    [
        ("http://localhost:8000/v1#qwen2.5-7b", "http://localhost:8000/v1", "qwen2.5-7b"),
        ("https://api.example.com/v1/#Qwen/Qwen2.5-7B", "https://api.example.com/v1", "Qwen/Qwen2.5-7B"),
        ("HTTP://[::1]:80/v1#a#b", "HTTP://[::1]:80/v1", "a#b"),
    ],
)
def test_a_service_is_named_by_address_and_model(ref, url, model):
    service = service_of(ref)
    assert service == ServiceRef(url=url, model=model)
    assert service_of(str(service)) == service


@pytest.mark.parametrize("ref", ["med-tiny", "runs/first", "Qwen/Qwen2.5-7B", "http", "ftp://host#m", "./http:x"])
def test_other_models_are_none(ref):
    assert service_of(ref) is None


def test_the_model_must_be_named():
    with pytest.raises(UsageError, match="which model") as error:
        service_of("http://localhost:8000/v1/")
    assert "http://localhost:8000/v1#NAME" in error.value.hint


@pytest.mark.parametrize("ref", ["https://me:secret@host/v1#m", "https://secret@host/v1", "http://h:x@y:secret@z:a/#m"])
def test_a_password_is_refused_and_not_repeated(ref):
    with pytest.raises(UsageError) as error:
        service_of(ref)
    assert "secret" not in f"{error.value.message} {error.value.hint}"


def test_a_key_in_the_query_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as error:
        service_of("https://host/v1?key=secret#m")
    assert "MED_API_KEY" in error.value.hint
    assert "secret" not in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(
    "ref", ["http://#m", "http:///v1#m", "http://host:99999/v1#m", "http://[::1/v1#m", "http://h:a#m"]
)
def test_what_is_no_address_is_told(ref):
    with pytest.raises(UsageError, match="no address of a service"):
        service_of(ref)
