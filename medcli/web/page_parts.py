"""What stands on the page, and where."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from medcli.core.serving import Scheduler
from medcli.core.speaker import Sampling
from medcli.web.page_talk import Talk

_MOST_TOKENS = 4096  # of an answer; nobody reads on
_KEPT = 12 * 60 * 60  # seconds that a talk is kept after its last change
_LARGEST_SEED = 2**31 - 1
_MATHEMATICS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that something happens to.

    `chats` and `models` have a left and a right one. `controls` are what a person sets, in the order of a wish.
    """

    talk: gr.State
    question: gr.Textbox
    chats: tuple[gr.Chatbot, ...]
    models: tuple[gr.Dropdown, ...]
    right: gr.Column
    beside: gr.Checkbox
    controls: tuple[Component, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What the settings are at first, and the longest answer that may be set, in tokens, where that is limited."""

    sampling: Sampling
    system: str
    longest: int | None


def lay_out(scheduler: Scheduler, begin: Beginning, say: gr.I18n) -> Parts:
    """Put all parts on the page that is being made."""
    names = list(scheduler.models)
    talk = gr.State(Talk(), time_to_live=_KEPT)
    with gr.Sidebar(label=say("settings"), open=False, position="right", elem_id="settings"):
        beside = gr.Checkbox(label=say("beside"), value=False, visible=len(names) > 1, elem_id="beside")
        controls = _controls(begin, _longest(scheduler, begin), say)
    gr.Markdown(say("title"), elem_id="title")
    with gr.Row(elem_id="chats"):
        with gr.Column(min_width=280):
            left = gr.Dropdown(names, value=names[0], label=say("model"), elem_id="model-left")
            first = _chat("chat-left", say)
        with gr.Column(min_width=280, visible=False) as column:
            right = gr.Dropdown(names, value=names[-1], label=say("model_right"), elem_id="model-right")
            second = _chat("chat-right", say)
    with gr.Column(scale=0, elem_id="composer"):
        question = gr.Textbox(
            placeholder=say("ask"), label=say("question"), show_label=False, lines=1, max_lines=6, autofocus=True,
            submit_btn=True, container=False, elem_id="question",
        )  # fmt: skip
        gr.Markdown(say("disclaimer"), elem_id="disclaimer")
    return Parts(
        talk=talk,
        question=question,
        chats=(first, second),
        models=(left, right),
        right=column,
        beside=beside,
        controls=(left, right, beside, *controls),
    )


def _chat(name: str, say: gr.I18n) -> gr.Chatbot:
    return gr.Chatbot(
        label=say("chat"), show_label=False, container=True, elem_id=name, height="100%", editable="user",
        buttons=["copy", "copy_all"], feedback_options=None, placeholder=str(say("empty")), layout="bubble",
        latex_delimiters=_MATHEMATICS, sanitize_html=True, allow_tags=False, allow_file_downloads=False,
    )  # fmt: skip


def _longest(scheduler: Scheduler, begin: Beginning) -> int:
    """The longest answer that can be set: as much as a model reads and says, and no more than is allowed."""
    contexts = [context for name in scheduler.models if (context := scheduler.context(name))]
    return min(max(contexts, default=_MOST_TOKENS), begin.longest or _MOST_TOKENS, _MOST_TOKENS)


def _controls(begin: Beginning, longest: int, say: gr.I18n) -> tuple[Component, ...]:
    """What is said to the model first and how it chooses its words; the ranges reach as far as answers make sense."""
    sampling = begin.sampling
    return (
        gr.Textbox(begin.system, label=say("system"), lines=3, max_lines=8, elem_id="system"),
        gr.Slider(0, 2, sampling.temperature, step=0.05, label=say("temperature"), info=say("temperature_help")),
        gr.Slider(0.05, 1, sampling.top_p, step=0.05, label=say("top_p"), info=say("top_p_help")),
        gr.Slider(0, 200, sampling.top_k, step=1, label=say("top_k"), info=say("top_k_help")),
        gr.Slider(1, longest, min(sampling.max_tokens, longest), step=1, label=say("max_tokens")),
        gr.Number(
            sampling.seed, minimum=0, maximum=_LARGEST_SEED, precision=0, label=say("seed"), info=say("seed_help")
        ),
        gr.Slider(
            1, 2, sampling.repetition_penalty, step=0.05,
            label=say("repetition_penalty"), info=say("repetition_penalty_help"),
        ),
    )  # fmt: skip
