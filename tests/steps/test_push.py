"""A folder goes to a hub whole, private unless told otherwise; a hub that refuses is one message without the token."""

import pytest

from medcli.core.errors import ServiceError, UsageError
from medcli.core.report import Silent
from medcli.steps import push
from tests.steps.push_server import TOKEN, serving

NAME = "clinic/triage"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "out"
    place.mkdir()
    (place / "README.md").write_text("---\nlicense: mit\n---\n# x\n", "utf-8")
    (place / "model.safetensors").write_bytes(bytes(range(256)) * 4)
    return place


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving() as one:
        monkeypatch.setenv("HF_ENDPOINT", one.address)
        yield one


def pushed(folder, public=False):
    return push.push(folder, NAME, public=public, report=Silent())


@pytest.mark.parametrize("public", [False, True])
def test_every_file_arrives_in_one_commit(hub, folder, public):
    push.check_login(NAME)
    assert pushed(folder, public) == f"{hub.address}/{NAME}"
    assert {name: data for name, data in hub.repos[NAME].items() if name[0] != "."} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert hub.private[NAME] is not public
    assert sum(path.endswith("/commit/main") for path in hub.asked) == 1


def test_what_is_there_is_not_overwritten(hub, folder):
    pushed(folder)
    before = dict(hub.repos[NAME])
    with pytest.raises(UsageError, match="holds 2 files already") as raised:
        pushed(folder)
    assert f"hf upload {NAME} {folder}" in raised.value.hint
    assert hub.repos[NAME] == before


def test_a_new_repository_without_files_is_filled(hub, folder):
    hub.statuses[f"/api/models/{NAME}/commit"] = 413
    with pytest.raises(ServiceError, match="status 413") as raised:
        pushed(folder)
    assert "the folder is whole" in raised.value.hint
    hub.statuses.clear()
    pushed(folder)
    assert "model.safetensors" in hub.repos[NAME]


def test_nothing_private_goes_to_a_public_place(hub, folder):
    hub.repos[NAME], hub.private[NAME] = {}, False
    with pytest.raises(UsageError, match="is public") as raised:
        pushed(folder)
    assert "--public" in raised.value.hint
    assert hub.repos[NAME] == {}


@pytest.mark.parametrize(
    ("start", "status", "said"),
    [
        ("/api/whoami-v2", 401, "does not know who asks"),
        ("/api/whoami-v2", 502, "answered with status 502"),
        ("/api/repos/create", 403, "does not let this token write there"),
        ("/api/repos/create", 404, "knows no such owner"),
        (f"/api/models/{NAME}/preupload", 403, "does not let this token write there"),
    ],
)
def test_a_refusal_is_one_message_without_the_token(hub, folder, start, status, said):
    hub.statuses[start] = status
    with pytest.raises(ServiceError, match=said) as raised:
        push.check_login(NAME)
        pushed(folder)
    assert TOKEN not in f"{raised.value} {raised.value.hint}"


def test_without_a_token_it_says_how_to_get_one(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(ServiceError) as raised:
        push.check_login(NAME)
    assert "hf auth login" in raised.value.hint


def test_a_hub_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ServiceError, match="cannot be reached"):
        push.check_login(NAME)


@pytest.mark.parametrize("name", ["triage", "a/b/c", "a b/c", "医/c", "/c", "a/", "../c", "https://x/y"])
def test_a_name_is_an_owner_and_a_name(name):
    with pytest.raises(UsageError, match="is not OWNER/NAME"):
        push.check_name(name)
