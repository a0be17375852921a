import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from medcli.cli import chat
from medcli.core.errors import DataError, UsageError
from medcli.steps.chat import Settings


class FakeSpeaker:
    """Repeats the question, with a line break, after how many messages it saw."""

    def reply(self, messages, sampling):
        yield f"[{len(messages)}] "
        yield f"{messages[-1].content}：\n多喝水。"

    def replies(self, prompts, sampling, advance):
        raise NotImplementedError


@pytest.fixture
def talk(project, monkeypatch, capsys):
    """`talk(question, stdin=…)` runs `med chat` with a fake model and returns what it printed."""

    def run(question=None, *, stdin="", model="med-tiny", **options):
        monkeypatch.setattr("sys.stdin", stdin if isinstance(stdin, io.TextIOBase) else io.StringIO(stdin))
        as_json = options.pop("as_json", False)
        settings = Settings(model=model, **options)
        chat.talk(settings, question, as_json=as_json, speaker_of=lambda model, settings, report: FakeSpeaker())
        return capsys.readouterr()

    return run


def test_one_question_prints_the_answer_and_nothing_else(talk):
    printed = talk(" 头痛怎么办 ", stdin="not read\n")
    assert printed.out == "[1] 头痛怎么办：\n多喝水。\n"
    assert "med-tiny is a demonstration model" in printed.err


def test_one_question_as_json(talk):
    printed = talk("头痛", system="你是医生", as_json=True)
    assert json.loads(printed.out) == {
        "question": "头痛",
        "answer": "[2] 头痛：\n多喝水。",
        "model": "med-tiny",
    }


def test_a_pipe_is_a_fresh_dialogue_a_line(talk):
    printed = talk(stdin="\ufeff头痛\n\n  \n发热\r\n")
    assert printed.out == "[1] 头痛：\n多喝水。\n[1] 发热：\n多喝水。\n"


def test_a_pipe_with_json_is_an_object_a_line(talk):
    printed = talk(stdin="头痛\n发热", as_json=True)
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["question"] for row in rows] == ["头痛", "发热"]
    assert rows[0]["answer"] == "[1] 头痛：\n多喝水。"


def test_an_empty_pipe_says_so(talk):
    printed = talk(stdin="\n")
    assert printed.out == ""
    assert "no question came" in printed.err


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_pipe_in_another_encoding_is_a_data_error(talk, errors):
    foreign = io.TextIOWrapper(io.BytesIO("发热\n".encode("gb18030")), encoding="utf-8", errors=errors)
    with pytest.raises(DataError, match="UTF-8"):
        talk(stdin=foreign)


def test_a_model_of_ones_own_gets_the_general_notice(talk, project):
    (project / "mine").mkdir()
    (project / "mine" / "config.json").write_text("{}")
    printed = talk("头痛", model="mine")
    assert "no substitute for a doctor" in printed.err
    assert "demonstration model" not in printed.err


def test_without_a_model_it_is_med_tiny_and_says_so(talk):
    assert "no MODEL is named: talking with med-tiny" in talk("头痛", model="").err


def test_json_does_not_fit_a_conversation(talk):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with pytest.raises(UsageError, match="--json"):
        talk(stdin=Terminal(), as_json=True)


def test_the_command_line_refuses_what_it_must(med, project):
    assert med("chat", "med-tinny", "头痛").exit_code == 4
    assert "did you mean 'med-tiny'" in med("chat", "med-tinny", "头痛").stderr
    assert med("chat", "med-tiny", " ").exit_code == 2
    assert med("chat", "med-tiny", "头痛", "--top-p", "7").exit_code == 2
    (project / "med.toml").write_text('[chat]\nmodel = "nowhere"\n')
    assert "'nowhere'" in med("chat", stdin="头痛").stderr
    (project / "med.toml").write_text("[chat]\ntemprature = 1\n")
    assert "did you mean 'temperature'" in med("chat", stdin="头痛").stderr


# Python 3.12 warns of a fork in a process with threads; the child starts another program at once.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_conversation_on_a_terminal(project, tmp_path):
    import pexpect

    script = str(Path(__file__).with_name("slow_chat.py"))
    environment = os.environ | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", "PYTHONUTF8": "1"}
    terminal = pexpect.spawn(
        sys.executable, [script], env=environment, encoding="utf-8", timeout=30, dimensions=(40, 100),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores Ctrl-C
    )  # fmt: skip

    def enter(line, expected):
        terminal.send(f"{line}\r")
        terminal.expect_exact(expected)

    terminal.expect_exact("talking with med-tiny")
    enter("头痛", "[1] 关于“头痛”：建议多喝水，注意休息，必要时就医。(seed 42)")
    enter("慢慢说", "[3] 关于")
    terminal.sendintr()
    terminal.expect_exact("stopped; what was said is kept")
    enter("/save partial.json", "saved to partial.json: 2 questions")
    kept = json.loads((project / "partial.json").read_text("utf-8"))["messages"][-1]["content"]
    assert kept.startswith("[3] 关于")
    assert len(kept) < len("[3] 关于“慢慢说”：建议")
    enter("/undo", "taken back: 慢慢说")
    enter("/retry", "(seed 43)")
    enter("/undo", "taken back: 头痛")
    enter("/undo", "nothing has been asked yet")
    enter("哑", "(silent)")
    terminal.sendintr()
    terminal.expect_exact("stopped before the first word")
    enter("/load partial.json", "loaded from partial.json: 2 questions")
    enter("发热", "[5] 关于")
    enter("/load med.toml", "No such file")
    enter("/rety", "did you mean '/retry'?")
    enter("\x1b[200~第一行\n第二行\x1b[201~", "[7] 关于“第一行\r\n第二行”")
    enter("stream", "when they are complete")
    enter("clear", "cleared")
    terminal.send("half a line")
    terminal.expect_exact("half a line")
    terminal.sendintr()
    terminal.expect_exact("/exit or Ctrl-D leaves")
    enter("/system 你是医生", "system: 你是医生")
    enter("咳嗽", "[2] 关于“咳嗽”")
    enter("/help", "/system TEXT")
    terminal.expect_exact("Arrow up")
    terminal.expect_exact("❯ ")  # a Ctrl-D sent before the prompt is there is lost
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (terminal.exitstatus, terminal.signalstatus) == (0, None)
    history = tmp_path / "cache" / "chat_history"
    assert "慢慢说" in history.read_text("utf-8")
    assert history.stat().st_mode & 0o077 == 0
