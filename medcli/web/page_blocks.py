"""The page as gradio makes it, with all left out that would leave this machine or be kept."""

from collections.abc import Callable

import gradio as gr
from fastapi import FastAPI
from starlette.middleware import Middleware

from medcli.core.catalogue import languages, words
from medcli.core.resources import templates
from medcli.core.speaker import DISCLAIMER
from medcli.web.page_answers import Desk
from medcli.web.page_door import Door
from medcli.web.page_events import Events
from medcli.web.page_parts import Beginning, lay_out

_TALKS = 500  # that are kept at once; the one that rested longest goes first
_AT_ONCE = 1000  # questions that the page waits for; how many are answered at once is the scheduler's word
# Fonts that are on every machine: gradio's own themes name ones that would be fetched.
_FONTS = ("system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")
_FIXED_WIDTH = ("ui-monospace", "Consolas", "Noto Sans Mono CJK SC", "monospace")


def mount(app: FastAPI, desk: Desk, begin: Beginning, authenticate: Callable[[str], bool] | None) -> None:
    """Put the page at "/" of `app`, behind a door that lets nothing else of gradio be reached."""
    say = _translations()
    with gr.Blocks(title="med", analytics_enabled=False, fill_height=True, fill_width=True) as blocks:
        Events(desk, lay_out(desk.scheduler, begin, say), begin.sampling).connect()
    blocks.state_session_capacity = _TALKS
    blocks.max_threads = _AT_ONCE
    blocks.queue(default_concurrency_limit=None, api_open=False)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        i18n=say,
        theme=gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=_FONTS, font_mono=_FIXED_WIDTH),
        css=(templates() / "page" / "chat.css").read_text("utf-8"),
        app_kwargs={"middleware": [Middleware(Door, authenticate=authenticate)]},
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,  # what a defect says is for the server's own output
    )


def _translations() -> gr.I18n:
    """The page's words in each language; Chinese under every name that a browser has for it."""
    texts = {language: dict(words(language, "page")) for language in languages()}
    texts["zh"]["disclaimer"] = DISCLAIMER
    return gr.I18n(**texts, **{"zh-CN": texts["zh"], "zh-TW": texts["zh"]})
