import re

import pytest
from starlette.responses import HTMLResponse
from starlette.testclient import TestClient

from medcli.core.speaker import DISCLAIMER
from medcli.web.page_door import Door
from medcli.web.page_guests import Guests

PAGE = '<html><link rel="manifest" href="/manifest.json" /><script>1</script><script src="x.js"></script></html>'
KEY = "open sesame"


def visitor(authenticate=None) -> TestClient:
    """A browser before a door, behind which every path is the same page."""
    return TestClient(Door(HTMLResponse(PAGE), authenticate), base_url="http://localhost:8000", follow_redirects=False)


def test_only_what_the_page_needs_is_open():
    client = visitor()
    for path in ("/", "/assets/x.js", "/static/fonts/x.woff2", "/theme.css", "/gradio_api/startup-events"):
        assert client.get(path).status_code == 200, path
    for path in (
        "/config", "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/file=/etc/passwd", "/gradio_api/upload",
        "/gradio_api/proxy=x", "/gradio_api/run/ask", "/gradio_api/call/ask", "/gradio_api/api/ask", "/gradio_api/runs",
        "/gradio_api/component_server", "/monitoring", "/manifest.json", "/login", "/v1/nothing",
        "/gradio_api/queue/status",
    ):  # fmt: skip
        assert client.get(path).status_code == 404, path
        assert client.post(path).status_code == 404, path


def test_no_page_holds_a_connection_open():
    assert visitor().get("/gradio_api/heartbeat/abc").status_code == 204


def test_another_site_may_not_speak_for_its_visitors():
    client = visitor()
    for origin, status in (("http://localhost:8000", 200), ("https://evil.example", 403), ("null", 403)):
        assert client.post("/gradio_api/queue/join", headers={"Origin": origin}, json={}).status_code == status


def test_scripts_run_only_with_the_nonce_of_this_answer():
    client = visitor()
    first, second = client.get("/"), client.get("/")
    rules = first.headers["content-security-policy"]
    nonce = re.search("'nonce-([^']+)'", rules)[1]
    assert first.text == f'<html><script nonce="{nonce}">1</script><script nonce="{nonce}" src="x.js"></script></html>'
    assert "unsafe-inline" not in rules.split("script-src")[1].split(";")[0]
    assert "http" not in rules, "nothing from elsewhere"
    assert nonce not in second.headers["content-security-policy"]
    assert "content-security-policy" not in client.get("/assets/x.js").headers


def test_without_the_key_there_is_a_form_and_nothing_else():
    client = visitor(lambda key: key == KEY)
    form = client.get("/", headers={"Accept-Language": "zh-CN"})
    assert form.status_code == 401
    assert "请输入启动服务时设置的密钥" in form.text
    assert DISCLAIMER in form.text
    assert client.get("/assets/x.js").status_code == 401
    assert client.post("/gradio_api/queue/join", json={}).status_code == 401
    wrong = client.post("/", data={"key": "<b>guess"}, headers={"Accept-Language": "en"})
    assert wrong.status_code == 401
    assert "That is not the key." in wrong.text
    assert "guess" not in wrong.text


def test_the_key_is_entered_once():
    client = visitor(lambda key: key == KEY)
    entered = client.post("/", data={"key": f" {KEY} "})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert KEY not in cookie
    assert client.get("/").text.startswith("<html><script")
    assert client.post("/gradio_api/queue/join", json={}).status_code == 200


def test_a_made_up_cookie_opens_nothing():
    client = visitor(lambda key: key == KEY)
    client.cookies.set("med_page", KEY)
    assert client.get("/").status_code == 401


def test_guessing_is_slowed_down():
    client = visitor(lambda key: key == KEY)
    statuses = [client.post("/", data={"key": str(guess)}).status_code for guess in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert client.post("/", data={"key": KEY}).status_code == 429


@pytest.mark.parametrize(("key", "known"), [(KEY, True), ("guess", False), ("", False)])
def test_a_guest_is_known_by_a_token(key, known):
    guests = Guests(lambda given: given == KEY)
    assert guests.knows(guests.admit(key)) is known
    assert not guests.knows("")
