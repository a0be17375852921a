"""Every shipped chat format in Ollama's words renders as the chat template does, or is refused.

`go` carries out what of Go's text/template is used, and `commands` reads a Modelfile as Ollama's parser does.
"""

import re

import pytest

from medcli.core.chat_template import ChatTemplate, shipped_names, shipped_text
from medcli.core.errors import ModelError, UsageError
from medcli.core.ollama import Turns, modelfile, turns_of
from medcli.core.record import Message

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
NUMBERED = {"chatglm2"}  # "[Round 1]": Go's templates cannot count
THREE = (("u", "头痛{{ .System }}3天"), ("a", "多大了？"), ("u", 'He said "3".'), ("a", "看儿科。"), ("u", "谢谢"))
ROLES = {"s": "system", "u": "user", "a": "assistant"}
DIALOGUES = [[*first, *THREE[:length]] for first in ([], [("s", "你是医生。\n请简短。")]) for length in (1, 3, 5)]


def talk(turns):
    return [Message(role=ROLES[role], content=text) for role, text in turns]


def template(name):
    return ChatTemplate(name=name, text=shipped_text(name), tokens=TOKENS)


def go(text, messages):
    """What Ollama makes of the template `text` and these messages."""
    parts = re.split(r"{{ (.*?) }}", text)
    steps = [
        step
        for literal, word in zip(parts[::2], [*parts[1::2], ""], strict=True)
        for step in (("", literal), ("do", word))
    ]
    values = {"System": "\n\n".join(m.content for m in messages if m.role == "system"), "Messages": messages}
    said, rest = carried_out(steps[:-1], values, values)
    assert not rest
    return said


def carried_out(steps, dot, values, runs=True):
    """The text up to the `end` or `else` that closes this block, and the steps from there on."""
    said = ""
    while steps and not (steps[0][0] and steps[0][1].partition(" ")[0] in ("end", "else")):
        (kind, word), *steps = steps
        name, _, argument = word.partition(" ")
        if not kind:
            said += word
        elif name == "range":
            items = dot["Messages"] if runs else []
            for item in items:
                said += carried_out(steps, {"Role": item.role, "Content": item.content}, values)[0]
            steps = carried_out(steps, {}, values, False)[1][1:]
        elif name == "if":
            text, steps = branch(argument, steps, dot, values, runs)
            said += text
        elif runs:
            said += value(word, dot)
    return said if runs else "", steps


def branch(condition, steps, dot, values, runs):
    holds = runs and bool(truth(condition, dot))
    said, steps = carried_out(steps, dot, values, holds)
    (_, word), *steps = steps
    if word.startswith("else if "):
        other, steps = branch(word.removeprefix("else if "), steps, dot, values, runs and not holds)
        return said + other, steps
    if word == "else":
        other, steps = carried_out(steps, dot, values, runs and not holds)
        return said + other, steps[1:]
    return said, steps


def truth(condition, dot):
    if condition.startswith("eq "):
        _, name, wanted = condition.split()
        return value(name, dot) == value(wanted, dot)
    return value(condition, dot)


def value(word, dot):
    if word.startswith('"'):
        return re.sub(r"\\U([0-9a-f]{8})", lambda code: chr(int(code[1], 16)), word[1:-1])
    return dot[word.removeprefix(".")]


def commands(text):
    """(name, value) of each command; what Go does not call printable is dropped, but for blanks, tabs and line ends."""
    text = "".join(one for one in text if one in " \t\n" or one.isprintable())
    found = re.findall(
        r'^([A-Z]+)[ ](?:([a-z_]+)[ ])?(?:"""(.*?)"""|"([^\n]*)"|([^"\n][^\n]*))\n', text, re.MULTILINE | re.DOTALL
    )
    return [(parameter or name, long or short or bare) for name, parameter, long, short, bare in found]


@pytest.mark.parametrize("name", sorted(set(shipped_names()) - NUMBERED))
@pytest.mark.parametrize("added", ["", "<s>"])
def test_every_format_is_said_as_its_template_says_it(name, added):
    ours = template(name)
    text = turns_of(ours, added).go_template()
    for turns in DIALOGUES:
        messages = talk(turns)
        assert go(text, messages) == ours.text_of(messages, True).removeprefix(added)


def test_each_role_has_its_words_around_it():
    """A dialogue that does not end with a question, or skips an answer, is then said as well as can be."""
    assert turns_of(template("phi3")).go_template() == (
        "{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}{{ range .Messages }}"
        '{{ if eq .Role "user" }}<|user|>\n{{ .Content }}<|end|>\n<|assistant|>\n'
        '{{ else if eq .Role "assistant" }}{{ .Content }}<|end|>\n{{ end }}{{ end }}'
    )


@pytest.mark.parametrize("name", sorted(NUMBERED))
def test_numbered_turns_are_refused(name):
    with pytest.raises(ModelError, match="does not write every turn alike"):
        turns_of(template(name))


def test_a_template_that_changes_what_is_said_is_refused():
    for text in (
        "{{ messages[-1].content[:4] }}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "nothing",
    ):
        with pytest.raises(ModelError, match="does not write every turn alike"):
            turns_of(ChatTemplate(name="own", text=text))


def test_a_template_that_treats_the_third_turn_otherwise_is_refused():
    text = "{% for m in messages %}{{ loop.index if loop.index > 4 }}<{{ m.role }}>{{ m.content }}{% endfor %}"
    with pytest.raises(ModelError, match="does not write every turn alike"):
        turns_of(ChatTemplate(name="own", text=text))


NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
)


def test_a_template_without_system_messages_is_said_without():
    turns = turns_of(ChatTemplate(name="own", text=NO_SYSTEM))
    assert turns.system is None
    assert ".System" not in turns.go_template()
    with pytest.raises(UsageError, match="takes no system message"):
        modelfile(".", turns, [], system="医生", licence="MIT")


def test_words_that_go_or_ollama_would_read_otherwise_arrive():
    odd = '{{ x }} """ {\u3000\u00a0\ue000\U000e0001\r\n'
    turns = Turns(system=(odd, odd), silent=odd, user=(odd, odd), assistant=(odd, odd), ask=odd)
    text = modelfile(".", turns, [("stop", 'a"b')], system="", licence='an """odd""" licence')
    found = dict(commands(text))
    for turns_said in DIALOGUES:
        messages = talk(turns_said)
        assert go(found["TEMPLATE"], messages) == turns.render(messages)
    assert found["stop"] == 'a"b'
    assert found["LICENSE"] == "an odd licence"


def test_a_modelfile_says_what_is_set():
    turns = turns_of(template("chatml"))
    said = [("temperature", 0.0), ("stop", "<|im_end|>"), ("stop", "\n\n###")]
    text = modelfile("./m.gguf", turns, said, system="你是医生。\n请简短。", licence="MIT")
    assert commands(text) == [
        ("FROM", "./m.gguf"),
        ("TEMPLATE", turns.go_template()),
        ("temperature", "0.0"),
        ("stop", "<|im_end|>"),
        ("stop", "\n\n###"),
        ("SYSTEM", "你是医生。\n请简短。"),
        ("LICENSE", "MIT"),
    ]


@pytest.mark.parametrize("odd", ['"""', "\u3000", "\x07"])
def test_a_system_message_that_would_arrive_otherwise_is_refused(odd):
    with pytest.raises(UsageError, match="--system holds"):
        modelfile(".", turns_of(template("chatml")), [], system=f"你是{odd}医生", licence="MIT")
