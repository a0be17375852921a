"""What is read in branches, after a beginning read once, is what the model finds of each text alone."""

from dataclasses import replace

import pytest
import torch

from medcli.core.model_ref import ModelRef
from medcli.core.reading import last_answer
from medcli.core.record import Conversation, Message
from medcli.core.report import Silent
from medcli.core.tuner_settings import LoraSettings, PrefixSettings
from medcli.engine import attention, likelihood, lora, prefix
from medcli.engine.encode import encode
from medcli.engine.load import load
from medcli.engine.reader import LocalReader
from tests import families

LETTERS = ("A", "B", "C", "D")
SETS = ("AB", "AC", "ABC", "ACD", "D")
TEXTS = ("高血压", "高血糖引起的头痛", "注意休息。\n多喝水")
# Without a window, or with a wide one; those of ALONE have one of 16 tokens, or count positions themselves.
SHARING = {"llama": {}, "qwen2": {"use_sliding_window": False}, "glm": {}, "gemma2": {"sliding_window": 500}}
ALONE = ("mistral", "bloom")


def opened(folder, template="med-tiny"):
    return load(ModelRef(base=str(folder)), device=torch.device("cpu"), report=Silent(), template=template)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    home = tmp_path_factory.mktemp("bases")
    return {family: families.write(family, home / family, **SHARING.get(family, {})) for family in (*SHARING, *ALONE)}


@pytest.fixture(scope="module")
def llama(bases):
    return opened(bases["llama"])


def asked(question, shots=0):
    shown = [
        (Message(role="user", content=f"例题{number}：糖尿病的症状是哪一项？\nA. 多饮\nB. 皮疹"), "AB"[number % 2])
        for number in range(shots)
    ]
    turns = [turn for shot, letter in shown for turn in (shot, Message(role="assistant", content=letter))]
    return [*turns, Message(role="user", content=question)]


# Examples that three share, a system message that two share, a question alone; all lengths differ.
PROMPTS = [
    asked("头痛怎么办？", 6),
    asked("高血压患者的注意事项有哪些？\nA. 低盐\nB. 饮酒", 6),
    asked("咳嗽", 6),
    asked("发热"),
    [Message(role="system", content="你是医生。" * 60), *asked("痛风，症状是什么？", 1)],
    [Message(role="system", content="你是医生。" * 60), *asked("感冒，吃什么药？", 1)],
]


def each(endings):
    return [endings] * len(PROMPTS)


def alone(loaded, prompt, ending, ended, uncounted=0):
    """(sum, tokens) from one forward over the dialogue as training encodes it; the stop word is the last token."""
    (example,) = encode([last_answer(loaded.template, prompt, ending)], loaded.tokenizer)
    places = example.trained.nonzero()[0][uncounted : None if ended else -1].tolist()
    ids = torch.from_numpy(example.ids).long()
    with torch.no_grad(), attention.own(loaded.causal_lm):
        chances = loaded.model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
    return sum(float(chances[place - 1, ids[place]]) for place in places), len(places)


def read(loaded, endings, ended, prompts=PROMPTS):
    rows = LocalReader(loaded).likelihoods(prompts, [endings] * len(prompts), lambda done: None, ended=ended)
    return [[(one.total, one.tokens) for one in row] for row in rows]


def check(loaded, endings, ended, tolerance=1e-4):
    for prompt, row in zip(PROMPTS, read(loaded, endings, ended), strict=True):
        for ending, (total, tokens) in zip(endings, row, strict=True):
            expected, count = alone(loaded, prompt, ending, ended)
            assert total == pytest.approx(expected, abs=tolerance)
            assert tokens == count


class Fed:
    """How many tokens, padding included, each call of a model is given."""

    def __init__(self, loaded):
        self.calls = []
        self._hook = loaded.causal_lm.get_input_embeddings().register_forward_pre_hook(
            lambda _, given: self.calls.append(given[0].numel())
        )

    def __enter__(self):
        return self.calls

    def __exit__(self, *_):
        self._hook.remove()


@pytest.mark.parametrize(("endings", "ended"), [(LETTERS, False), (SETS, True), (TEXTS, True), (TEXTS, False)])
@pytest.mark.parametrize("family", SHARING)
def test_it_is_what_the_model_finds_of_each_text_alone(bases, family, endings, ended):
    check(opened(bases[family]), endings, ended)


@pytest.mark.parametrize("family", ALONE)
def test_models_that_cannot_share_read_each_text_anew(bases, family):
    check(opened(bases[family]), (*LETTERS, *SETS), True)


@pytest.mark.filterwarnings("ignore")  # transformers says that fast kernels for Mamba are not here
def test_a_recurrent_model_reads_too(tmp_path):
    check(opened(families.write("mamba", tmp_path / "mamba")), ("A", "AB"), True, tolerance=1e-3)


def test_a_tuned_prefix_is_read_before_every_text(bases, llama):
    torch.manual_seed(1)
    made = prefix.prepare(opened(bases["llama"]), PrefixSettings(dataset=("x",), length=8, precision="fp32"))
    made.model.prompt_encoder.default.embedding.weight.data.normal_()
    check(made, SETS, True)
    assert read(made, LETTERS, False) != read(llama, LETTERS, False)


def test_the_active_adapter_reads(llama):
    adapted = lora.prepare(llama, LoraSettings(dataset=("t",), precision="fp32"))
    for name, weight in adapted.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(0))
    adapted.model.eval()
    try:
        check(adapted, SETS, True)
        with adapted.model.disable_adapter():
            bare = read(adapted, LETTERS, False)
        assert read(adapted, LETTERS, False) != bare
    finally:
        adapted.model.unload()


def test_half_precision_is_summed_in_whole(bases, llama):
    whole = read(llama, TEXTS, True)
    other = opened(bases["llama"])
    half = read(replace(other, model=other.model.to(torch.bfloat16)), TEXTS, True)
    for row, other in zip(whole, half, strict=True):
        for (total, tokens), (rounded, _) in zip(row, other, strict=True):
            assert rounded == pytest.approx(total, abs=0.1 * tokens)


def test_what_prompts_share_is_read_once_and_letters_take_no_call_of_their_own(llama):
    prompts = [asked(f"第{number}题：头痛怎么办？", 6) for number in range(20)]
    lengths = [
        len(llama.tokenizer(llama.template.text_of(prompt, True), add_special_tokens=False)["input_ids"])
        for prompt in prompts
    ]
    with Fed(llama) as calls:
        read(llama, LETTERS, False, prompts)
    beginning, rest = calls
    assert beginning > 0.8 * max(lengths)
    assert rest == 20 * (max(lengths) - beginning)
    with Fed(llama) as calls:
        read(llama, SETS, True, prompts)
    # AB, AC, ABC, ACD, D: the nodes A, AB, AC, D, ABC and ACD, however many endings pass through them.
    assert calls == [beginning, rest + 20 * 6]


def test_long_calls_are_cut_into_batches(llama, monkeypatch):
    with Fed(llama) as few:
        whole = read(llama, SETS, True)
    for name, limit in {"TOKENS": 60, "SEEN": 600, "READ": 9}.items():
        with monkeypatch.context() as limits:
            limits.setattr(f"medcli.engine.rows.{name}", limit)
            with Fed(llama) as calls:
                cut = read(llama, SETS, True)
        assert len(calls) > len(few)
        for row, other in zip(whole, cut, strict=True):
            assert [total for total, _ in row] == pytest.approx([total for total, _ in other], abs=1e-4)


@pytest.mark.parametrize("template", ["glm4", "vicuna"])
def test_the_blank_space_that_a_format_writes_before_an_answer_is_read_but_not_counted(bases, template):
    loaded = opened(bases["llama"], template)
    prompt = asked("头痛怎么办？", 2)
    for ended in (False, True):
        for ending, row in zip(("A", "高血压"), read(loaded, ("A", "高血压"), ended, [prompt])[0], strict=True):
            expected, count = alone(loaded, prompt, ending, ended, uncounted=1)
            assert row == (pytest.approx(expected, abs=1e-4), count)


def test_an_ending_without_tokens_is_certain(llama):
    ((nothing, stop),) = [read(llama, ("", "A"), False)[0]]
    assert nothing == (0.0, 0)
    assert stop[0] < 0
    assert read(llama, ("",), True)[0][0] == (pytest.approx(alone(llama, PROMPTS[0], "", True)[0], abs=1e-4), 1)


def test_it_says_how_many_prompts_are_done(bases, monkeypatch):
    monkeypatch.setattr("medcli.engine.rows.TOKENS", 300)
    for loaded in (opened(bases["llama"]), opened(bases["bloom"])):
        done = []
        LocalReader(loaded).likelihoods(PROMPTS, each(TEXTS), done.append)
        assert done == sorted(done)
        assert done[-1] == len(PROMPTS)
        assert len(set(done)) > 2


def test_nothing_asked_is_nothing_read(llama):
    reader = LocalReader(llama)
    assert reader.likelihoods([], [], lambda done: None) == []
    assert reader.likelihoods([asked("头痛")], [()], lambda done: None) == [[]]


def test_a_prompt_that_leaves_no_room_for_its_ending_has_no_likelihoods(llama):
    least = len(llama.tokenizer("<|user|><|end|><|assistant|>")["input_ids"])
    fits, long, short = (asked("<" * (511 - least)), asked("<" * (512 - least)), asked("头痛"))
    found = read(llama, ("A",), False, [fits, long, short])
    assert found[1] == []
    assert found[0] == read(llama, ("A",), False, [fits])[0]
    assert found[2][0] == pytest.approx(read(llama, ("A",), False, [short])[0][0], abs=1e-4)


def test_perplexity_is_that_of_the_likelihoods(llama):
    dialogues = [
        Conversation(id=str(number), source="t", messages=(*asked(text), Message(role="assistant", content="多休息。")))
        for number, text in enumerate(("头痛", "发热了怎么办？"))
    ]
    value, tokens, means = LocalReader(llama).perplexity(dialogues, Silent())
    assert (value, tokens, means) == likelihood.perplexity(llama, dialogues, Silent())
    rows = read(llama, ("多休息。",), True, [dialogue.messages[:-1] for dialogue in dialogues])
    assert means == pytest.approx([-total / count for ((total, count),) in rows], rel=1e-5)
    assert tokens == sum(count for ((_, count),) in rows)
