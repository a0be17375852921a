"""Every shipped template renders as its official one does, and says exactly what is learnt.

In the golden strings « and » stand around what is learnt.
"""

import json
import re

import pytest

from medcli.core.chat_template import ChatTemplate, plain, shipped_names, shipped_text
from medcli.core.errors import ModelError
from medcli.core.record import Message, messages_of
from tests.conftest import shared

FAMILIES = {
    "llama-2-chat": "llama2",
    "llama-3-instruct": "llama3",
    "chatml": "chatml",
    "qwen2.5-instruct": "qwen2.5",
    "alpaca": "alpaca",
    "vicuna": "vicuna",
    "mistral-instruct": "mistral",
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
ROLES = {"s": "system", "u": "user", "a": "assistant"}


def talk(*turns):
    return [Message(role=ROLES[role], content=text) for role, text in turns]


TWO_TURNS = talk(("u", "孩子发烧"), ("a", "多大了？"), ("u", "3岁。"), ("a", "看儿科。"))
WITH_SYSTEM = talk(("s", "你是医生。"), ("u", "头痛？"))
THOUGHT = "<think>\n先问年龄。\n</think>\n\n"

# name: (two turns, a question under a system message). Sources:
# chatglm2: build_prompt in tokenization_chatglm.py of THUDM/chatglm2-6b; [gMASK] and sop are its prefix tokens.
# chatglm3: chat_template in tokenizer_config.json of THUDM/chatglm3-6b.
# glm4: chat_template of THUDM/glm-4-9b-chat; finetune.py of THUDM/GLM-4 learns <|user|> after the last answer.
# baichuan2: build_chat_input in generation_utils.py of baichuan-inc/Baichuan2-13B-Chat.
# ziya: the usage section of IDEA-CCNL/Ziya-LLaMA-13B-v1.
# belle: the usage section of BelleGroup/BELLE-7B-2M.
# bianque: README of scutcyr/BianQue, its section on Python.
# bloom-med, llama-med: bloom_deploy.json and med_template.json of SCIR-HI/Huatuo-Llama-Med-Chinese.
# internlm: chat_template of internlm/internlm2_5-7b-chat. phi4: chat_template of microsoft/phi-4.
# deepseek: chat_template of deepseek-ai/DeepSeek-V3, whose prompt begins no thought.
GOLDEN = {
    "baichuan2": (
        "<reserved_106>孩子发烧<reserved_107>«多大了？</s>»<reserved_106>3岁。<reserved_107>«看儿科。</s>»",
        "你是医生。<reserved_106>头痛？<reserved_107>",
    ),
    "belle": (
        "Human: 孩子发烧\n\nAssistant:«多大了？</s>»\n\nHuman: 3岁。\n\nAssistant:«看儿科。</s>»\n\n",
        "你是医生。\n\nHuman: 头痛？\n\nAssistant:",
    ),
    "bianque": (
        "病人：孩子发烧\n医生：«多大了？</s>»\n病人：3岁。\n医生：«看儿科。</s>»\n",
        "你是医生。\n病人：头痛？\n医生：",
    ),
    "bloom-med": (
        "下面是一个问题，运用医学知识来正确回答提问.\n孩子发烧\n### 回答：\n«多大了？</s>»\n"
        "3岁。\n### 回答：\n«看儿科。</s>»\n",
        "你是医生。\n头痛？\n### 回答：\n",
    ),
    "plain": ("<s>孩子发烧\n«多大了？</s>»3岁。\n«看儿科。</s>»", "<s>你是医生。\n头痛？\n"),
    "llama-med": (
        "<s>下面是一个问题，运用医学知识来正确回答提问.\n### 问题:\n孩子发烧\n### 回答:\n«多大了？</s>»\n"
        "### 问题:\n3岁。\n### 回答:\n«看儿科。</s>»\n",
        "<s>你是医生。\n### 问题:\n头痛？\n### 回答:\n",
    ),
    "chatglm2": (
        "[gMASK]sop[Round 1]\n\n问：孩子发烧\n\n答：«多大了？</s>»\n\n[Round 2]\n\n问：3岁。\n\n答：«看儿科。</s>»\n\n",
        "[gMASK]sop你是医生。\n\n[Round 1]\n\n问：头痛？\n\n答：",
    ),
    "chatglm3": (
        "[gMASK]sop<|user|>\n 孩子发烧<|assistant|>«\n 多大了？<|user|>»\n 3岁。<|assistant|>«\n 看儿科。<|user|>»",
        "[gMASK]sop<|system|>\n 你是医生。<|user|>\n 头痛？<|assistant|>",
    ),
    "glm4": (
        "[gMASK]<sop><|user|>\n孩子发烧<|assistant|>«\n多大了？<|user|>»\n3岁。<|assistant|>«\n看儿科。<|user|>»",
        "[gMASK]<sop><|system|>\n你是医生。<|user|>\n头痛？<|assistant|>",
    ),
    "internlm": (
        "<s><|im_start|>user\n孩子发烧<|im_end|>\n<|im_start|>assistant\n«多大了？<|im_end|>»\n"
        "<|im_start|>user\n3岁。<|im_end|>\n<|im_start|>assistant\n«看儿科。<|im_end|>»\n",
        "<s><|im_start|>system\n你是医生。<|im_end|>\n<|im_start|>user\n头痛？<|im_end|>\n<|im_start|>assistant\n",
    ),
    "phi4": (
        "<|im_start|>user<|im_sep|>孩子发烧<|im_end|><|im_start|>assistant<|im_sep|>«多大了？<|im_end|>»"
        "<|im_start|>user<|im_sep|>3岁。<|im_end|><|im_start|>assistant<|im_sep|>«看儿科。<|im_end|>»",
        "<|im_start|>system<|im_sep|>你是医生。<|im_end|><|im_start|>user<|im_sep|>头痛？<|im_end|>"
        "<|im_start|>assistant<|im_sep|>",
    ),
    "ziya": (
        "<s><human>:孩子发烧\n<bot>:«多大了？</s>»\n<human>:3岁。\n<bot>:«看儿科。</s>»\n",
        "<s>你是医生。\n<human>:头痛？\n<bot>:",
    ),
    "deepseek": (
        "<s><｜User｜>孩子发烧<｜Assistant｜>«多大了？</s>»<｜User｜>3岁。<｜Assistant｜>«看儿科。</s>»",
        "<s>你是医生。<｜User｜>头痛？<｜Assistant｜>",
    ),
    "med-tiny": (
        "<|user|>孩子发烧<|end|><|assistant|>«多大了？<|end|>»<|user|>3岁。<|end|><|assistant|>«看儿科。<|end|>»",
        "<|system|>你是医生。<|end|><|user|>头痛？<|end|><|assistant|>",
    ),
}
# Their official texts come with trl: tests/engine/test_model_template.py compares with those.
OFFICIAL = {"qwen3", "qwen3.5", "qwen3-thinking", "glm4.5", "gemma", "phi3", "deepseek-thinking"}
THINKING = {"qwen3-thinking", "deepseek-thinking"}  # what they learn is in the tests of thoughts
PLAIN = sorted(set(shipped_names()) - THINKING)


def template(name):
    """With every word of the template that looks like a control token reserved, as the model's tokenizer would."""
    text = shipped_text(name)
    body = text[text.index("#}") :].replace("{{ message.role }}", "user")
    words = re.findall(r"<\|?[\w｜-]+\|?>|</think>|\[gMASK\]", body)
    roles = [word.replace("user", role) for word in words if "user" in word for role in ("system", "assistant")]
    return ChatTemplate(name=name, text=text, tokens=TOKENS, reserved=tuple(dict.fromkeys([*words, *roles, "</s>"])))


def shown(segments):
    return "".join(f"«{segment.text}»" if segment.trained else segment.text for segment in segments)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_strings(name):
    two_turns, asked = GOLDEN[name]
    assert shown(template(name).render(TWO_TURNS)) == two_turns
    assert shown(template(name).render(WITH_SYSTEM, ask=True)) == asked


def test_golden_file():
    path = shared("golden_chat_templates.jsonl")
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        tokens = {"bos_token": row["bos_token"], "eos_token": row["eos_token"]}
        ours = ChatTemplate(name=row["family"], text=shipped_text(FAMILIES[row["family"]]), tokens=tokens)
        segments = ours.render(messages_of(row["messages"]), ask=row["add_generation_prompt"])
        assert plain(segments) == row["rendered"], (row["family"], row["case"])
        answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        learnt = [segment.text.replace(" ", "") for segment in segments if segment.trained]
        assert learnt == [answer + row["eos_token"] for answer in answers]


def test_every_template_is_compared_with_something():
    assert set(shipped_names()) == set(GOLDEN) | set(FAMILIES.values()) | OFFICIAL


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_learnt_is_the_answers_and_their_ends(name):
    ours = template(name)
    assert {"stop", "models", "origin"} <= set(ours.header)
    for dialogue in (TWO_TURNS, [*WITH_SYSTEM, *TWO_TURNS[1:]]):
        lessons = [ours.render(lesson) for lesson in ours.lessons(dialogue)]
        learnt = [segment.text for lesson in lessons for segment in lesson if segment.trained]
        assert [re.sub(r"\s", "", text) for text in learnt] == [f"{a}{ours.stops[0]}" for a in ("多大了？", "看儿科。")]


@pytest.mark.parametrize("name", PLAIN)
def test_learning_begins_where_chat_asks(name):
    """What is learnt follows the prompt at once: no word between them that the model would have to guess."""
    ours = template(name)
    prompts = [plain(ours.render(TWO_TURNS[:asked], ask=True)) for asked in (1, 3)]
    found = []
    for lesson in map(ours.render, ours.lessons(TWO_TURNS)):
        found += [plain(lesson[:index]) for index, segment in enumerate(lesson) if segment.trained]
    assert found == prompts


@pytest.mark.parametrize("name", PLAIN)
def test_bos_is_there_once_or_never(name):
    assert plain(template(name).render(TWO_TURNS[:2])).count("<s>") == ("bos_token" in shipped_text(name))


@pytest.mark.parametrize("name", shipped_names())
def test_users_cannot_write_control_words(name):
    ours = template(name)
    named = [word for word in ours.header.get("control", "").split(" | ") if word]
    harmless = plain(ours.render(talk(("u", "好")), ask=True))
    for word in (*ours.reserved, *named):
        attack = plain(ours.render(talk(("u", f"好\n{word}\n{word}坏")), ask=True))
        pattern = re.compile(("^" if word.endswith((":", "：")) else "") + re.escape(word), re.MULTILINE)
        assert len(pattern.findall(attack)) == len(pattern.findall(harmless)), word


def test_names_of_roles_within_a_line_stay_as_written():
    said = talk(("u", "我问：能吃吗？他答：能。"), ("a", "答：\n问：先问医生。"))
    assert "我问：能吃吗？他答：能。" in plain(template("chatglm2").render(said))
    assert "答：\n问：先问医生。</s>" in plain(template("chatglm2").render(said))


@pytest.mark.parametrize("name", sorted(set(shipped_names()) - {"deepseek-thinking"}))
def test_a_template_without_marks_is_understood(name):
    """A model's own template rarely says what is learnt; the same spans must be found without the marks."""
    marked = template(name)
    text = marked.text.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    bare = ChatTemplate(name="bare", text=text, tokens=TOKENS, reserved=marked.reserved)
    assert not bare.marked
    assert shown(bare.render(TWO_TURNS)) == shown(marked.render(TWO_TURNS))
    assert bare.lessons(TWO_TURNS) == marked.lessons(TWO_TURNS)
    spaced = talk(("u", " 甲\n"), ("a", "\n 乙 "))
    assert plain(bare.render(spaced)) == plain(marked.render(spaced))


@pytest.mark.parametrize("name", ["qwen3", "qwen3.5", "deepseek", "glm4.5"])
def test_a_thought_needs_a_template_that_asks_for_one(name):
    thinking = talk(("u", "发烧"), ("a", f"{THOUGHT}多大了？"))
    with pytest.raises(ModelError, match="the last answer holds a thought"):
        template(name).render(thinking)
    again = shown(template(name).render([*thinking, *talk(("u", "3岁。"), ("a", "看儿科。"))]))
    assert "先问年龄" not in again  # officially earlier thoughts are left out,
    assert "«多大了" not in again  # and an answer cut loose from its thought teaches nothing good
    assert again.count("«") == 1


@pytest.mark.parametrize("name", ["qwen3", "qwen3.5", "qwen3-thinking", "deepseek-thinking"])
def test_where_history_is_rewritten_each_answer_is_the_last_of_a_dialogue(name):
    thought = "" if name in PLAIN else THOUGHT
    dialogue = talk(
        ("u", "发烧"), ("a", f"{thought}多大了？"), ("u", "3岁。"), ("a", f"{thought}看儿科。"), ("u", "谢谢")
    )
    ours = template(name)
    assert ours.lessons(dialogue) == [dialogue[:2], dialogue[:4]]
    learnt = [part.text for part in ours.taught(dialogue) if part.trained]
    shown_ends = [
        said.endswith(answer + ours.stops[0]) for said, answer in zip(learnt, ("多大了？", "看儿科。"), strict=True)
    ]
    assert shown_ends == [True, True]  # what a person is shown before a run
    for lesson, answer in zip(ours.lessons(dialogue), ("多大了？", "看儿科。"), strict=True):
        rendered = ours.render(lesson)
        assert [segment.text.endswith(answer + ours.stops[0]) for segment in rendered if segment.trained] == [True]
        assert plain(rendered).startswith(plain(ours.render(lesson[:-1], ask=True)))
        assert plain(rendered).count(THOUGHT.split()[1]) == (1 if thought else 0)


def test_a_thought_is_learnt_with_its_answer():
    thinking = talk(("u", "发烧"), ("a", f"{THOUGHT}多大了？"), ("u", "3岁。"), ("a", f"{THOUGHT}看儿科。"))
    qwen = template("qwen3-thinking")
    assert shown(qwen.render(thinking)).endswith(
        "assistant\n多大了？<|im_end|>\n<|im_start|>user\n3岁。<|im_end|>\n<|im_start|>assistant\n"
        "«<think>\n先问年龄。\n</think>\n\n看儿科。<|im_end|>»\n"
    )
    assert plain(qwen.render(thinking[:1], ask=True)).endswith("<|im_start|>assistant\n")
    deepseek = template("deepseek-thinking")
    assert shown(deepseek.render(thinking)) == (
        "<s><｜User｜>发烧<｜Assistant｜>\n\n多大了？</s><｜User｜>3岁。<｜Assistant｜><think>\n"
        "«先问年龄。\n</think>\n\n看儿科。</s>»"
    )
    assert plain(deepseek.render(thinking[:1], ask=True)).endswith("<｜Assistant｜><think>\n")
    with pytest.raises(ModelError, match="holds no thought"):
        deepseek.render(TWO_TURNS)


def test_a_users_thought_is_text():
    assert "<think>" not in plain(template("qwen3-thinking").render(talk(("u", THOUGHT)), ask=True))
