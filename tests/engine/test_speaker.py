"""One answer streamed and many answered together are the same text."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from medcli.core.errors import ModelError
from medcli.core.record import Conversation, Message
from medcli.core.report import Silent
from medcli.core.speaker import Sampling
from medcli.engine.likelihood import perplexity
from medcli.engine.speaker import LocalSpeaker
from tests import families, tiny_model

GREEDY = Sampling(max_tokens=24)


@pytest.fixture(scope="module")
def speaker(tiny_folder):
    return LocalSpeaker(tiny_model.loaded(tiny_folder))


def ask(text):
    return [Message(role="user", content=text)]


def test_streamed_and_batched_answers_are_equal(speaker):
    prompts = [ask(text) for text in ("头痛", "高血压患者的注意事项有哪些？", "a", "得了痛风，症状是什么？" * 5)]
    done = []
    together = speaker.replies(prompts, GREEDY, done.append)
    assert together == ["".join(speaker.reply(prompt, GREEDY)) for prompt in prompts]
    assert done[-1] == len(prompts)


def test_a_model_that_ships_a_penalty_answers_alike_streamed_and_batched(tiny_folder):
    """Qwen2.5's generation_config.json has a repetition_penalty, which only transformers' own loop would heed."""
    speaker = LocalSpeaker(tiny_model.loaded(tiny_folder))
    speaker.loaded.model.generation_config.repetition_penalty = 1.3
    (batched,) = speaker.replies([ask("头痛")], GREEDY, lambda done: None)
    assert batched == "".join(speaker.reply(ask("头痛"), GREEDY))


@pytest.mark.filterwarnings("ignore")  # transformers says that fast kernels for Mamba are not here
def test_a_recurrent_model_speaks_too(tmp_path):
    speaker = LocalSpeaker(tiny_model.loaded(families.write("mamba", tmp_path / "mamba")))
    sampling = Sampling(temperature=0.0, max_tokens=6)
    whole = speaker.replies([ask("头痛怎么办？")], sampling, lambda done: None)[0]
    assert "".join(speaker.reply(ask("头痛怎么办？"), sampling)) == whole


def test_pieces_hold_no_broken_character(speaker):
    for text in ("头痛", "咳嗽怎么办", "b"):
        assert all("\ufffd" not in piece or not piece.endswith("\ufffd") for piece in speaker.reply(ask(text), GREEDY))


class Scripted(LlamaForCausalLM):
    """A model that says the given tokens."""

    def __init__(self, config, ids):
        super().__init__(config)
        self._ids = list(ids)
        self._next = 0

    def forward(self, past_key_values=None, **_):
        logits = torch.zeros(1, 1, self.config.vocab_size)
        logits[0, 0, self._ids[self._next % len(self._ids)]] = 1
        self._next += 1
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)


def test_blank_space_before_an_answer_is_not_said(speaker):
    """GLM writes a line break first; within the answer it stays."""
    written = speaker.loaded.tokenizer("\n \n多喝水。\n好", add_special_tokens=False)["input_ids"]
    model = Scripted(speaker.loaded.model.config, [*written, speaker.loaded.stops[0]])
    scripted = LocalSpeaker(replace(speaker.loaded, model=model))
    assert "".join(scripted.reply(ask("头痛"), GREEDY)) == "多喝水。\n好"
    assert scripted.replies([ask("头痛")], GREEDY, lambda done: None) == ["多喝水。\n好"]


def test_closing_the_answer_stops_the_model(speaker):
    answer = speaker.reply(ask("头痛"), Sampling(max_tokens=400, temperature=2.0))
    assert next(answer)
    answer.close()
    with pytest.raises(StopIteration):
        next(answer)


def test_a_seed_makes_sampling_repeatable(speaker):
    hot = Sampling(temperature=1.5, max_tokens=16, seed=7)
    first = "".join(speaker.reply(ask("头痛"), hot))
    assert first == "".join(speaker.reply(ask("头痛"), hot))
    other = Sampling(temperature=1.5, max_tokens=16, seed=8)
    assert first != "".join(speaker.reply(ask("头痛"), other))


def test_too_long_a_conversation_is_an_error(speaker):
    with pytest.raises(ModelError, match="reads at most 512"):
        list(speaker.reply(ask("长" * 3000), GREEDY))


def test_of_many_prompts_the_too_long_ones_are_left_unanswered(speaker):
    prompts = [ask("感冒怎么办？"), ask("长" * 3000), ask("头痛")]
    done = []
    answers = speaker.replies(prompts, GREEDY, done.append)
    alone = speaker.replies([prompts[0], prompts[2]], GREEDY, lambda count: None)
    assert answers == [alone[0], "", alone[1]]
    assert done[-1] == 3
    assert list(speaker.refusals) == [tuple(prompts[1])]
    assert "reads at most 512" in speaker.refusals[tuple(prompts[1])]


def test_perplexity_is_the_models_own(speaker, tiny_folder):
    """Against the plain loss of each dialogue alone."""
    dialogues = [
        Conversation(
            id=str(n), source="t", messages=(*ask("头痛" * n), Message(role="assistant", content="多休息。" * n))
        )
        for n in (1, 2, 5)
    ]
    value, tokens, means = perplexity(speaker.loaded, dialogues, Silent())
    loaded = speaker.loaded
    total = 0.0
    for dialogue, mean in zip(dialogues, means, strict=True):
        text = f"<|user|>{dialogue.messages[0].content}<|end|><|assistant|>"
        answer = loaded.tokenizer(f"{dialogue.messages[1].content}<|end|>")["input_ids"]
        prompt = loaded.tokenizer(text)["input_ids"]
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        nll = loaded.model(ids, labels=labels).loss.item()
        assert mean == pytest.approx(nll, rel=1e-4)
        total += nll * len(answer)
    assert value == pytest.approx(torch.tensor(total / tokens).exp().item(), rel=1e-4)
