"""A model's own template: the official ones, as trl keeps them, are learnt exactly or refused."""

import importlib.util
from functools import cache
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from medcli.core.chat_template import plain, shipped_text
from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message, message_rows
from medcli.engine.encode import encode
from medcli.engine.model_template import template_of

FOLDER = Path(importlib.util.find_spec("trl").submodule_search_locations[0]) / "chat_templates"
CHATML = "<|im_start|> <|im_end|> <think> </think> <tool_call>"
GEMMA4 = "<|turn> <turn|> <|channel> <channel|> <|think|>"
DEEPSEEK = "<｜User｜> <｜Assistant｜> <think> </think>"
DEEPSEEK_END = "<｜end▁of▁sentence｜>"
LLAMA3 = "<|start_header_id|> <|end_header_id|> <|eot_id|>"
COHERE = "<|START_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> <|SYSTEM_TOKEN|> <|END_OF_TURN_TOKEN|>"
# file: (the template of ours that it is, or none; control tokens; eos_token; what is learnt around an answer)
OFFICIAL = {
    "cohere": ("", COHERE, "<|END_OF_TURN_TOKEN|>", "{}<|END_OF_TURN_TOKEN|>"),
    "cohere2": (
        "",
        f"{COHERE} <|START_RESPONSE|> <|END_RESPONSE|>",
        "<|END_OF_TURN_TOKEN|>",
        "{}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
    ),
    "deepseek_r1_distill": ("deepseek", DEEPSEEK, DEEPSEEK_END, "{}" + DEEPSEEK_END),
    "deepseekv3": ("deepseek", DEEPSEEK, DEEPSEEK_END, "{}" + DEEPSEEK_END),
    "diffusion_gemma": ("", GEMMA4, "<turn|>", "{}<turn|>"),
    "gemma": ("gemma", "<start_of_turn> <end_of_turn>", "<eos>", "{}<end_of_turn>"),
    "gemma3": ("gemma", "<start_of_turn> <end_of_turn>", "<eos>", "{}<end_of_turn>"),
    "gemma4": ("", GEMMA4, "<turn|>", "{}<turn|>"),
    "gemma4_v2": ("", GEMMA4, "<turn|>", "{}<turn|>"),
    "gemma4_v3": ("", GEMMA4, "<turn|>", "{}<turn|>"),
    "gemma4_v4": ("", GEMMA4, "<turn|>", "{}<turn|>"),
    "gemma4_v5": ("", GEMMA4, "<turn|>", "{}<turn|>"),
    "glm4moe": (
        "glm4.5",
        "[gMASK] <sop> <|system|> <|user|> <|assistant|> <think> </think> /nothink",
        "<|endoftext|>",
        "\n{}<|user|>",
    ),
    "gptoss": (
        "",
        "<|start|> <|message|> <|channel|> <|end|> <|return|>",
        "<|return|>",
        "<|channel|>final<|message|>{}<|return|>",
    ),
    "lfm2": ("internlm", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "lfm2_2_5": ("internlm", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "lfm2_2_5_v2": ("internlm", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "lfm2_2_5_vl": ("internlm", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "lfm2_v2": ("internlm", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "llama3": ("llama3", LLAMA3, "<|eot_id|>", "{}<|eot_id|>"),
    "llama3_1": ("", LLAMA3, "<|eot_id|>", "{}<|eot_id|>"),
    "llama3_2": ("", LLAMA3, "<|eot_id|>", "{}<|eot_id|>"),
    "muse_glimmer": ("", "<|start|> <|message|> <|eot|>", "<|eot|>", " to=user<|message|>{}<|eot|>"),
    "nemotron_3_5_lightning": ("", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "nemotron_3_nano": ("", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "nemotron_3_super": ("", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "nemotron_3_ultra": ("", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "phi3": ("phi3", "<|user|> <|assistant|> <|system|> <|end|>", "<|endoftext|>", "{}<|end|>"),
    "phi3_5": ("phi3", "<|user|> <|assistant|> <|system|> <|end|>", "<|endoftext|>", "{}<|end|>"),
    "qwen2_5": ("qwen2.5", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen2_5_vl": ("", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen3": ("qwen3", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen3_5_nothink": ("qwen3.5", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen3_5_think": ("qwen3.5", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen3_6": ("qwen3.5", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen3_8": ("", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen3_instruct_2507": ("chatml", CHATML, "<|im_end|>", "{}<|im_end|>"),
    "qwen3_vl": ("chatml", CHATML, "<|im_end|>", "{}<|im_end|>"),
}
PICTURES = {"idefics3", "llava_next", "smolvlm"}  # a text in them is a list of parts
# History has no empty thought, or another end of an answer: a dialogue is learnt answer by answer.
REWRITTEN = {"gptoss", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6"}
DIALOGUE = (
    Message(role="user", content="孩子 发烧"),
    Message(role="assistant", content="多大了？"),
    Message(role="user", content="3岁。\n要紧吗"),
    Message(role="assistant", content="看儿科。\n\n多喝水。"),
)
SYSTEM = Message(role="system", content="你是医生。")


def tokenizer_of(file, words, eos):
    """A tokenizer of bytes and the control tokens of a model, with the model's own template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(word, special=True) for word in ("<s>", eos, *words.split())])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token=eos)
    made.chat_template = (FOLDER / f"{file}.jinja").read_text("utf-8")
    return made


@cache
def template_for(file):
    """The tokenizer of an official template, and what becomes of the template."""
    _, words, eos, _ = OFFICIAL[file]
    tokenizer = tokenizer_of(file, words, eos)
    return tokenizer, template_of(tokenizer, ModelRef(base="base"))


def official(tokenizer, messages, ask, **how):
    """The text as transformers renders it."""
    tokens = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    rendered, _ = render_jinja_template(
        [message_rows(messages)],
        chat_template=tokenizer.chat_template,
        add_generation_prompt=ask,
        **{"enable_thinking": False} | how,
        **tokens,
    )
    return rendered[0]


def test_every_official_template_is_looked_at():
    files = {path.stem for path in FOLDER.glob("*.jinja") if not path.stem.endswith("_training")}
    assert files == set(OFFICIAL) | PICTURES


@pytest.mark.parametrize("file", OFFICIAL)
def test_an_official_template_is_learnt_exactly(file):
    ours, _, _, learnt = OFFICIAL[file]
    tokenizer, template = template_for(file)
    assert template.text == (shipped_text(ours) if ours else tokenizer.chat_template)
    lessons = template.lessons(DIALOGUE)
    assert len(lessons) == (2 if file in REWRITTEN else 1)
    found = []
    for lesson in lessons:
        segments = template.render(lesson)
        ended = "<|user|>" if file == "glm4moe" else ""  # which the official one writes with the next turn
        assert plain(segments) == official(tokenizer, lesson, False) + ended
        example = encode([segments], tokenizer)[0]
        found += [segment.text for segment in segments if segment.trained]
        assert tokenizer.decode(example.ids[example.trained]) == "".join(found[-1:] if len(lessons) > 1 else found)
    assert found == [learnt.format(message.content) for message in DIALOGUE if message.role == "assistant"]


@pytest.mark.parametrize("file", OFFICIAL)
def test_an_official_template_asks_as_it_learnt(file):
    ours = OFFICIAL[file][0]
    tokenizer, template = template_for(file)
    for asked in (DIALOGUE[:1], DIALOGUE[:3], (SYSTEM, *DIALOGUE[:3])):
        if file == "gemma" and asked[0] is SYSTEM:
            continue  # it refuses a system message, which is placed as Gemma 3 does
        prompt = plain(template.render(asked, ask=True))
        assert prompt == official(tokenizer, asked, True).removesuffix("<think>\n" if ours == "deepseek" else "")
    segments = template.render(DIALOGUE)
    last = max(index for index, segment in enumerate(segments) if segment.trained)
    assert plain(segments[:last]) == plain(template.render(DIALOGUE[:3], ask=True))


@pytest.mark.parametrize("file", sorted(PICTURES))
def test_templates_for_pictures_are_refused(file):
    template = template_of(tokenizer_of(file, "<end_of_utterance>", "</s>"), ModelRef(base="base"))
    with pytest.raises(ModelError):
        template.render(DIALOGUE)


def test_a_system_message_stands_in_the_first_turn_of_gemma():
    tokenizer = tokenizer_of("gemma3", *OFFICIAL["gemma3"][1:3])
    ours = template_of(tokenizer_of("gemma", *OFFICIAL["gemma"][1:3]), ModelRef(base="base"))
    assert plain(ours.render((SYSTEM, *DIALOGUE))) == official(tokenizer, (SYSTEM, *DIALOGUE), False)


def test_thoughts_are_rendered_as_qwen3_does():
    tokenizer = tokenizer_of("qwen3", CHATML, "<|im_end|>")
    ours = template_of(tokenizer, ModelRef(base="base"), "qwen3-thinking")
    thought = [
        Message(role=message.role, content=f"<think>\n想\n</think>\n\n{message.content}")
        if message.role == "assistant"
        else message
        for message in DIALOGUE
    ]
    assert ours.lessons(thought) == [thought[:2], thought]
    for dialogue in (thought, thought[:2], [SYSTEM, *thought], DIALOGUE):
        assert plain(ours.render(dialogue)) == official(tokenizer, dialogue, False, enable_thinking=True)
        assert plain(ours.render(dialogue[:-1], ask=True)) == official(
            tokenizer, dialogue[:-1], True, enable_thinking=True
        )
    example = encode([ours.render(thought)], tokenizer)[0]
    assert tokenizer.decode(example.ids[example.trained]) == thought[-1].content + "<|im_end|>"


def test_a_template_that_ends_with_eos_fits_any_model():
    tokenizer = tokenizer_of("qwen3", CHATML, "<|im_end|>")
    ours = template_of(tokenizer, ModelRef(base="base"), "alpaca")
    assert [segment.text for segment in ours.render(DIALOGUE) if segment.trained][0] == "多大了？<|im_end|>"
    with pytest.raises(ModelError, match="its stop word <.eot_id.> is no single token"):
        template_of(tokenizer, ModelRef(base="base"), "llama3")
