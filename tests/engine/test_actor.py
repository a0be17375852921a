"""One frozen model that is policy, reference and judge: each must be what it would be alone."""

import numpy
import pytest
import torch

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.reading import last_answer
from medcli.core.report import Silent
from medcli.engine import actor as actors
from medcli.engine import attention
from medcli.engine.encode import encode
from medcli.engine.pack import Example
from medcli.engine.reward_model import open_reward_model
from tests import tiny_model
from tests.engine import small_policies as small

ANSWERS = ("多喝水", "请到医院检查，不要自行用药", "休息", "好")


@pytest.fixture(scope="module", params=tiny_model.FAMILIES)
def family(request, tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp(request.param), request.param)


def answered(loaded, answers=ANSWERS, ended=True):
    found = []
    for asked, answer in zip(small.prompts(loaded).asked, answers, strict=False):
        example = encode([last_answer(loaded.template, asked.messages, answer)], loaded.tokenizer)[0]
        kept = numpy.flatnonzero(example.trained)[-1] + (1 if ended else 0)
        example = Example(ids=example.ids[:kept], trained=example.trained[:kept])
        found.append(actors.Answered(asked=asked, example=example, ended=ended, text=answer))
    return found


def sharing(folder, tmp_path, **values):
    """A policy that carries the adapter of a reward run, and that run."""
    ref = small.reward_run(folder, tmp_path / "judge")
    policy = small.actor(folder, small.settings(**values))
    score = actors.lay_reward(policy.model, ref.adapters[-1])
    return actors.Actor(**{**vars(policy), "score": score}), ref


def stir(policy):
    """Make the policy another one than the reference."""
    for name, weight in policy.model.named_parameters():
        if f"lora_B.{actors.POLICY}" in name:
            torch.nn.init.normal_(weight.data, std=0.2)


@pytest.mark.parametrize("packing", [True, False])
def test_the_shared_model_judges_as_the_reward_model_beside_it(family, tmp_path, packing):
    """An answer that has not ended is judged as if it had."""
    policy, ref = sharing(family, tmp_path, packing=packing)
    stir(policy)
    given = answered(policy, ended=packing)
    found = policy.scores(given, batch=3, advance=lambda done: None)
    beside = open_reward_model(ref, device="cpu", report=Silent())
    dialogues = [(*one.asked.messages, actors.Message(role="assistant", content=one.text)) for one in given]
    assert found == pytest.approx(beside.rewards(dialogues, lambda done: None), abs=1e-5)
    assert max(found) - min(found) > 0.1  # it does tell them apart


def test_who_is_asked_instead_gets_dialogues(tiny_folder):
    policy = small.actor(tiny_folder, small.settings(), rewarder=small.Judge(len))
    assert policy.scores(answered(policy), batch=2, advance=lambda done: None) == [len(text) for text in ANSWERS]


def test_a_forward_gives_what_each_answer_has_alone(family):
    policy = small.actor(family, small.settings())
    stir(policy)
    torch.nn.init.normal_(policy.value_head.weight.data)
    examples = [one.example for one in answered(policy)]
    found = policy.read(examples, temperature=0.7)
    words, entropies, values = [], [], []
    with attention.own(policy.causal_lm), torch.no_grad():
        for example in examples:
            ids = torch.from_numpy(example.ids).long()
            out = policy.model(input_ids=ids[None], output_hidden_states=True)
            before = torch.from_numpy(example.trained)[1:]
            logs = (out.logits[0, :-1][before] / 0.7).log_softmax(-1)
            words.append(logs.gather(1, ids[1:][before][:, None])[:, 0])
            entropies.append(-(logs.exp() * logs).sum(-1))
            values.append(policy.value_head(out.hidden_states[-1][0, :-1][before])[:, 0])
    assert torch.allclose(found.log_probabilities, torch.cat(words), atol=1e-4)
    assert torch.allclose(found.entropies, torch.cat(entropies), atol=1e-4)
    assert torch.allclose(found.values, torch.cat(values), atol=1e-4)


def test_padded_rows_give_the_same(tiny_folder):
    found = []
    for packing in (True, False):
        policy = small.actor(tiny_folder, small.settings(packing=packing))
        found.append(policy.read([one.example for one in answered(policy)], temperature=1.0))
    assert torch.allclose(found[0].log_probabilities, found[1].log_probabilities, atol=1e-5)


def test_the_reference_is_the_model_as_it_was(tiny_folder, tmp_path):
    policy, _ = sharing(tiny_folder, tmp_path)
    examples = [one.example for one in answered(policy)]
    before = policy.read(examples, temperature=1.0).log_probabilities.detach()
    stir(policy)
    with policy.as_reference():
        reference = policy.read(examples, temperature=1.0).log_probabilities
    assert torch.equal(reference, before)
    assert not torch.allclose(policy.read(examples, temperature=1.0).log_probabilities, before, atol=1e-2)


def learning(policy):
    return {name for name, weight in policy.model.named_parameters() if weight.requires_grad}


def test_only_the_policy_learns_whatever_was_asked_between(tiny_folder, tmp_path):
    """Activating an adapter makes it learn and stops the others, in silence."""
    policy, _ = sharing(tiny_folder, tmp_path)
    given = answered(policy)
    before = learning(policy)
    assert before
    assert all(f".{actors.POLICY}." in name for name in before)
    policy.scores(given, batch=4, advance=lambda done: None)
    with policy.as_reference():
        policy.read([one.example for one in given], temperature=1.0)
    assert learning(policy) == before
    policy.read([one.example for one in given], temperature=1.0).log_probabilities.sum().backward()
    moved = {name for name, weight in policy.model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved == {name for name in before if "lora_B" in name}  # the A matrices follow once B is not zero


def test_a_judge_that_fails_leaves_the_policy_as_it_was(tiny_folder, tmp_path):
    policy, _ = sharing(tiny_folder, tmp_path)
    before = learning(policy)
    with pytest.raises(ZeroDivisionError):
        policy.scores(answered(policy), batch=4, advance=lambda done: done / 0)
    assert learning(policy) == before
    assert policy.model.active_adapter == actors.POLICY


def test_an_adapter_of_another_shape_is_refused(tiny_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    ref = small.reward_run(tiny_folder, tmp_path / "judge")
    weights = ref.adapters[-1] / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(weights).items() if "score" not in name}, weights)
    policy = small.actor(tiny_folder, small.settings())
    with pytest.raises(ModelError, match="does not fit"):
        actors.lay_reward(policy.model, ref.adapters[-1])


def test_a_base_is_shared_only_when_all_below_the_reward_adapter_is_the_same(tiny_folder, tmp_path):
    judge = small.reward_run(tiny_folder, tmp_path / "judge").adapters[-1]
    sft = tmp_path / "sft"
    sft.mkdir()
    base = str(tiny_folder)
    assert actors.shares(ModelRef(base=base), ModelRef(base=base, adapters=(judge,)))
    assert actors.shares(ModelRef(base=base, adapters=(sft,)), ModelRef(base=base, adapters=(sft, judge)))
    assert actors.shares(
        ModelRef(base=base, adapters=(sft / "..", sft)), ModelRef(base=base, adapters=(tmp_path, sft, judge))
    )
    assert not actors.shares(ModelRef(base=base, adapters=(sft,)), ModelRef(base=base, adapters=(judge,)))
    assert not actors.shares(ModelRef(base=base), ModelRef(base=base, adapters=(sft, judge)))
    assert not actors.shares(ModelRef(base="other/base"), ModelRef(base=base, adapters=(judge,)))
    assert not actors.shares(ModelRef(base=base), ModelRef(base=base))  # a whole classifier
