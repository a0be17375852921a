"""The page's server and a real browser for tests; they are skipped, saying so, where none is installed."""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI

from medcli.core.serving import Scheduler
from medcli.web.page import PageSettings, mount
from tests.web.page_scheduler import until

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


def chromium() -> str:
    """The path of an installed Chromium."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not found:
        pytest.skip("no Chromium is installed: apt install chromium")
    return found


@contextmanager
def serving(scheduler: Scheduler, page: PageSettings) -> Iterator[str]:
    """The address of a server with this page and a route of its own, on a free port of this machine."""
    app = FastAPI()
    app.get("/health")(lambda: {"status": "ok"})
    mount(app, scheduler, page)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            assert until(lambda: server.started, 20)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)


class Visitor:
    """A person at a tab of a browser; `guarded`, all that it wants from elsewhere is refused and written down.

    A guarded tab keeps nothing in its cache, so it is slower.
    """

    def __init__(self, context, address: str, viewport: dict[str, int], guarded: bool = False) -> None:
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.address = address
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.set_viewport_size(viewport)
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if guarded:
            self.page.route("**/*", self._reach)
        self.page.goto(address)

    def _reach(self, route) -> None:
        if route.request.url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def ask(self, question: str) -> None:
        """Type a question and send it."""
        self.page.locator("#question textarea").fill(question)
        self.page.locator("#question textarea").press("Enter")

    def read(self, text: str, side: str = "left") -> None:
        """Wait until a text stands in a chat."""
        self.page.locator(f"#chat-{side}").get_by_text(text).first.wait_for()

    def wait_ready(self) -> None:
        """Wait until the next question can be sent."""
        self.page.locator("#question .submit-button").wait_for()

    def said(self, side: str = "left", who: str = "bot") -> list[str]:
        """What stands in a chat by now, of the model or of the person."""
        return self.page.locator(f"#chat-{side} .message.{who}, #chat-{side} .{who}.message").all_inner_texts()

    def click(self, name: str, side: str = "left") -> None:
        """Click a button of a chat, by the name that a screen reader tells."""
        self.page.locator(f"#chat-{side}").get_by_role("button", name=name).last.click()

    def open_settings(self) -> None:
        """Open what is set beside the chat."""
        self.page.locator("#settings .toggle-button").click()

    def compare(self) -> None:
        """Put a second model beside the first."""
        self.open_settings()
        self.page.locator("#beside input").check()
        self.page.locator("#chat-right").wait_for()
        self.open_settings()
