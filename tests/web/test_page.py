"""The page in a real browser: what is asked, shown and stopped."""

import pytest

from medcli.core.citation import Grounding
from medcli.core.passage import Passage
from medcli.core.speaker import DISCLAIMER, Sampling
from medcli.web.page import PageSettings
from tests.web.browser import DESKTOP, PHONE, Visitor, chromium, serving
from tests.web.page_scheduler import PageScheduler, until

ATTACK = """\
<script>window.hacked = 1</script>

<img src="x" onerror="window.hacked = 2">

<svg onload="window.hacked = 3"></svg>

<iframe srcdoc="<script>parent.hacked = 4</script>"></iframe>

[a link](javascript:window.hacked=5) and <a href="javascript:window.hacked=6">another</a>

![seen](https://example.com/seen.png) <img src="https://example.com/seen.png">

<details open ontoggle="window.hacked = 7">x</details>

<form action="https://example.com/"><button>send</button></form>

<style>* { display: none !important }</style>

the end"""
# What could run, by itself or when it is clicked, in the messages of a chat.
LIVE = """() => [...document.querySelectorAll('#chat-left .message-content *')].filter(e =>
    ['SCRIPT', 'IFRAME', 'STYLE', 'OBJECT', 'EMBED'].includes(e.tagName) || [...e.attributes].some(a =>
        a.name.startsWith('on') || a.value.trim().toLowerCase().startsWith('javascript:'))).map(e => e.outerHTML)"""


@pytest.fixture(scope="module")
def scheduler():
    return PageScheduler(
        answers={
            "attack": ATTACK,
            "table": "| drug | how | dose |\n|---|---|---|\n| amoxicillin | by mouth, three times a day | 0.5 g |\n\n"
            + "无空格的很长很长的一行" * 30,
        }
    )


@pytest.fixture(scope="module")
def kept_files(tmp_path_factory):
    """Where gradio would keep files."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("gradio")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def address(scheduler, kept_files):
    settings = PageSettings(sampling=Sampling(temperature=0.7, top_p=0.9), system="你是医生。")
    with serving(scheduler, settings) as address:
        yield address


@pytest.fixture(scope="module")
def people():
    """`people("zh-CN")` is someone's browser, with what it has kept from its last visit; one a language and name."""
    api = pytest.importorskip("playwright.sync_api")
    contexts = {}
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])

        def person(locale: str, name: str = ""):
            if (locale, name) not in contexts:
                contexts[locale, name] = browser.new_context(locale=locale)
            return contexts[locale, name]

        yield person
        browser.close()


@pytest.fixture
def visit(people, address, scheduler):
    """`visit()` opens the page; it is closed at the end."""
    scheduler.spoken.clear()
    opened = []

    def come(locale="en-US", viewport=DESKTOP, name="", to=address, guarded=False) -> Visitor:
        opened.append(Visitor(people(locale, name), to, viewport, guarded))
        return opened[-1]

    yield come
    for visitor in opened:
        visitor.page.close()


def test_an_answer_comes_bit_by_bit_and_nothing_from_elsewhere(visit, scheduler):
    visitor = visit(guarded=True)
    visitor.ask("wait")
    visitor.read("med-")
    assert scheduler.load().running == 1
    visitor.page.locator("#question .stop-button").click()
    visitor.wait_ready()
    visitor.ask("how are you")
    visitor.read("med-a says: how are you")
    assert visitor.elsewhere == []
    assert visitor.complaints == []


@pytest.mark.parametrize(
    ("locale", "title", "model", "disclaimer"),
    [
        ("zh-CN", "医疗问答", "模型", DISCLAIMER),
        ("zh-TW", "医疗问答", "模型", DISCLAIMER),
        ("fr-FR", "Medical chat", "Model", "no substitute for a doctor"),
    ],
)
def test_the_page_speaks_the_browsers_language(visit, locale, title, model, disclaimer):
    page = visit(locale).page
    page.locator("#title").get_by_text(title).wait_for()
    page.get_by_label(model, exact=True).first.wait_for()
    assert disclaimer in page.locator("#disclaimer").inner_text()


def test_scripts_of_an_answer_or_a_question_do_not_run(visit):
    visitor = visit(guarded=True)
    visitor.ask(ATTACK)
    visitor.read("the end")
    visitor.wait_ready()
    visitor.ask("attack")
    page = visitor.page
    page.locator("#chat-left .bot-row").last.get_by_text("the end").wait_for()
    visitor.wait_ready()
    page.evaluate("document.querySelectorAll('#chat-left .message-content :is(a, button)').forEach(e => e.click())")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate(LIVE) == []
    assert visitor.elsewhere == []
    assert page.url == visitor.address
    # What got past the cleaning would not run either.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 8\">')")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None


def test_stop_ends_the_model_and_keeps_what_was_said(visit, scheduler):
    visitor = visit()
    visitor.ask("wait")
    visitor.read("med-")
    visitor.page.locator("#question .stop-button").click()
    visitor.read("stopped")
    assert until(lambda: scheduler.load().running == 0)
    assert scheduler.spoken[0].cancelled
    visitor.wait_ready()
    visitor.ask("go on")
    visitor.read("med-a says: go on")
    roles = [(message.role, message.content) for message in scheduler.spoken[-1].request.prompt]
    assert roles == [("system", "你是医生。"), ("user", "wait"), ("assistant", "med-"), ("user", "go on")]


def test_closing_the_tab_ends_the_model(visit, scheduler):
    visitor = visit()
    visitor.ask("wait")
    visitor.read("med-")
    visitor.page.close()
    assert until(lambda: scheduler.load().running == 0)
    assert scheduler.spoken[0].cancelled


def test_retry_undo_edit_and_clear(visit, scheduler):
    visitor = visit()
    visitor.ask("first")
    visitor.read("med-a says: first")
    visitor.wait_ready()
    visitor.ask("second")
    visitor.read("med-a says: second")
    visitor.wait_ready()
    visitor.click("Retry")
    assert until(lambda: len(scheduler.spoken) == 3)
    again = scheduler.spoken[-1].request
    assert again.prompt == scheduler.spoken[-2].request.prompt
    assert again.sampling.seed == scheduler.spoken[-2].request.sampling.seed + 1
    visitor.read("med-a says: second")
    visitor.wait_ready()

    visitor.click("Undo")
    visitor.page.locator("#chat-left").get_by_text("second").first.wait_for(state="detached")
    assert visitor.page.locator("#question textarea").input_value() == "second"

    visitor.page.locator("#chat-left .user-row").first.hover()
    visitor.click("Edit")
    visitor.page.locator("#chat-left textarea").fill("other")
    visitor.click("Submit")
    visitor.read("med-a says: other")
    assert [message.content for message in scheduler.spoken[-1].request.prompt] == ["你是医生。", "other"]
    visitor.wait_ready()

    visitor.click("Clear")
    visitor.read("Ask something below.")
    visitor.ask("new")
    visitor.read("med-a says: new")
    assert [message.content for message in scheduler.spoken[-1].request.prompt] == ["你是医生。", "new"]


def test_settings_and_the_model_go_with_the_question(visit, scheduler):
    visitor = visit()
    page = visitor.page
    page.get_by_label("Model", exact=True).first.click()
    page.get_by_role("option", name="med-b").click()
    visitor.open_settings()
    page.get_by_label("System prompt").fill("Be short.")
    for name, value in (("Temperature", "0.3"), ("Top-p", "0.5"), ("Top-k", "20"), ("Longest answer", "64")):
        page.get_by_label(f"number input for {name}").fill(value)
        page.get_by_label(f"number input for {name}").press("Tab")
    page.get_by_label("number input for Repetition penalty").fill("1.2")
    page.get_by_label("Seed").fill("7")
    visitor.open_settings()
    visitor.ask("hello")
    visitor.read("med-b says: hello")
    request = scheduler.spoken[-1].request
    assert request.model == "med-b"
    assert request.prompt[0].content == "Be short."
    assert request.sampling == Sampling(
        temperature=0.3, top_p=0.5, top_k=20, max_tokens=64, seed=7, repetition_penalty=1.2
    )


def test_two_models_answer_side_by_side_at_the_same_time(visit, scheduler):
    visitor = visit()
    visitor.compare()
    visitor.ask("wait")
    visitor.read("med-", "left")
    visitor.read("med-", "right")
    assert scheduler.load().running == 2
    visitor.ask("not yet")
    visitor.page.wait_for_timeout(500)
    assert scheduler.load().running == 2
    visitor.page.locator("#question .stop-button").click()
    assert until(lambda: scheduler.load().running == 0)
    visitor.wait_ready()
    visitor.ask("both")
    visitor.read("med-a says: both", "left")
    visitor.read("med-b says: both", "right")
    assert visitor.complaints == []


def test_conversations_of_two_browsers_do_not_mix_and_are_kept_nowhere(visit, scheduler, kept_files):
    visitors = {name: visit(name=name) for name in ("ann", "bob")}
    for round_ in ("1", "2"):
        for name, visitor in visitors.items():
            visitor.ask(f"{name} {round_}")
        for name, visitor in visitors.items():
            visitor.read(f"med-a says: {name} {round_}")
            visitor.wait_ready()
    for name, other in (("ann", "bob"), ("bob", "ann")):
        assert other not in visitors[name].page.locator("#chat-left").inner_text()
        last = next(spoken.request for spoken in scheduler.spoken if spoken.request.prompt[-1].content == f"{name} 2")
        assert other not in str(last.prompt)
        assert len(last.prompt) == 4
        stored = "JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie"
        assert name not in visitors[name].page.evaluate(stored)
    assert [path for path in kept_files.rglob("*") if path.is_file()] == []


def test_what_goes_wrong_is_said_in_the_chat(visit):
    visitor = visit("zh-CN")
    for question, message in (
        ("busy", "排队的问题太多，请在 7 秒后重试。"),
        ("closing", "服务正在关闭"),
        ("long", "the prompt is too long; ask something shorter"),
        ("broken", "模型未能回答：out of memory"),
        ("again", "med-a says: again"),
    ):
        visitor.ask(question)
        visitor.read(message)
        visitor.wait_ready()
    assert visitor.page.locator("#chat-left").inner_text().count("again") == 2  # the question, and its answer


def test_sources_stand_below_the_answer(visit, scheduler):
    def ground(messages, room):
        found = (Passage(text="低盐饮食。<script>window.hacked = 1</script>", source="指南.txt:12"),)
        return Grounding(messages=messages, passages=found if "盐" in messages[-1].content else (), kb="指南")

    with serving(scheduler, PageSettings(ground=ground)) as address:
        visitor = visit("zh-CN", to=address)
        visitor.ask("能吃盐吗")
        visitor.page.get_by_text("依据（1）").click()
        visitor.read("指南.txt:12")
        visitor.read("低盐饮食。")
        assert visitor.page.evaluate("window.hacked") is None
        visitor.wait_ready()
        visitor.ask("天气")
        visitor.read("未找到依据")
        visitor.page.close()


def test_the_page_fits_a_phone(visit):
    visitor = visit(viewport=PHONE)
    visitor.ask("table")
    visitor.read("amoxicillin")
    visitor.compare()
    visitor.wait_ready()
    visitor.ask("table")
    visitor.read("amoxicillin", "right")
    page = visitor.page
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for part in ("#question textarea", "#question .submit-button", "#disclaimer", "#chat-left", "#chat-right"):
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
        assert box["y"] >= 0 and box["y"] + box["height"] <= PHONE["height"]
    assert page.locator("#chat-left .bubble-wrap").evaluate("e => e.scrollWidth <= e.clientWidth")


def test_the_key_opens_the_page_and_nothing_else_does(visit, scheduler):
    with serving(scheduler, PageSettings(authenticate=lambda key: key == "open sesame")) as address:
        visitor = visit("en-US", to=address)
        page = visitor.page
        page.get_by_label("Key").fill("guess")
        page.get_by_role("button", name="Enter").click()
        page.get_by_text("That is not the key.").wait_for()
        assert page.request.get(f"{address}health").status == 200
        assert page.request.post(f"{address}gradio_api/queue/join", data={}).status == 401
        page.get_by_label("Key").fill("open sesame")
        page.get_by_role("button", name="Enter").click()
        visitor.ask("hello")
        visitor.read("med-a says: hello")
        assert visitor.elsewhere == []
        page.close()
