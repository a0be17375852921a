"""What is handed to vLLM, which needs a GPU, and how its answers are taken: with a stand-in of its four names."""

import sys

import pytest

from medcli.core.errors import ModelError, UsageError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.speaker import Answer, Sampling
from medcli.engine.vllm_speaker import VllmSpeaker
from tests.engine.test_voices import adapted

STAND_IN = """
from types import SimpleNamespace

class SamplingParams(SimpleNamespace):
    pass

class LLM:
    made = []

    def __init__(self, **given):
        LLM.made.append(given)
        self.asked = []
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=60))

    def generate(self, prompts, hows, lora_request, use_tqdm):
        self.asked.append((prompts, hows, lora_request))
        return [
            SimpleNamespace(outputs=[SimpleNamespace(text=f" {how.seed}", finish_reason="length", token_ids=[1, 2])])
            for how in hows
        ]
"""


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    package = tmp_path / "site" / "vllm"
    (package / "lora").mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "lora" / "__init__.py").write_text("")
    (package / "lora" / "request.py").write_text("def LoRARequest(*given): return given\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield
    for name in ("vllm", "vllm.lora", "vllm.lora.request"):
        sys.modules.pop(name, None)


def ask(text):
    return [Message(role="user", content=text)]


def test_prompts_are_handed_over_as_the_tokens_of_the_template(vllm, tiny_folder):
    speaker = VllmSpeaker(ModelRef(base=str(tiny_folder)), Silent())
    how = Sampling(temperature=0.5, top_k=7, seed=3, stop=("。",), max_tokens=9)
    answers = dict(speaker.answers([ask("头痛"), ask("长" * 3000)], [how, how]))
    tokens = speaker._tokenizer("<|user|>头痛<|end|><|assistant|>", add_special_tokens=False)["input_ids"]
    assert answers[0] == Answer(text="3", finish="length", prompt_tokens=len(tokens), tokens=2)
    assert answers[1].finish == "refused"
    assert "reads at most 60" in answers[1].problem
    ((prompts, hows, adapter),) = speaker._llm.asked
    assert prompts == [{"prompt_token_ids": tokens}]
    assert (hows[0].temperature, hows[0].top_k, hows[0].stop, hows[0].max_tokens) == (0.5, 7, ["。"], 9)
    assert hows[0].stop_token_ids == [speaker._tokenizer.convert_tokens_to_ids("<|end|>")]
    assert adapter is None


def test_replies_have_seeds_of_their_own(vllm, tiny_folder):
    speaker = VllmSpeaker(ModelRef(base=str(tiny_folder)), Silent())
    done = []
    seeds = [int(text) for text in speaker.replies([ask("头痛"), ask("痛风")], Sampling(seed=5), done.append)]
    assert seeds[1] == seeds[0] + 1
    assert done == [1, 2]
    assert list(speaker.reply(ask("头痛"), Sampling(seed=8))) == ["8"]
    with pytest.raises(ModelError, match="reads at most"):
        list(speaker.reply(ask("长" * 3000), Sampling()))


def test_one_adapter_of_lora_is_laid_over_the_base(vllm, tiny_folder, tmp_path):
    folder = adapted(tiny_folder, tmp_path / "a", 1)
    speaker = VllmSpeaker(ModelRef(base=str(tiny_folder), adapters=(folder,)), Silent())
    speaker.replies([ask("头痛")], Sampling(), print)
    assert speaker._llm.asked[0][2] == ("adapter", 1, str(folder))
    assert type(speaker._llm).made[-1]["max_lora_rank"] == 16
    with pytest.raises(ModelError, match="cannot lay"):
        VllmSpeaker(ModelRef(base=str(tiny_folder), adapters=(folder, folder)), Silent())


def test_without_vllm_the_command_that_gets_it_is_named(tiny_folder):
    with pytest.raises(UsageError) as error:
        VllmSpeaker(ModelRef(base=str(tiny_folder)), Silent())
    assert "medcli[vllm]" in error.value.hint
    with pytest.raises(UsageError, match="med-tiny"):
        VllmSpeaker(ModelRef(base="med-tiny"), Silent())
