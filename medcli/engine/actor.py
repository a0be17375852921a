"""A policy and all that PPO needs beside it, on one frozen model: its reference, its values, and what judges it.

The policy is an adapter; the reference is the model without it; a reward model trained over the same weights is a
second adapter and a vector. So nothing but adapters is in memory twice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from medcli.core import model_ref
from medcli.core.alignment_settings import PpoSettings
from medcli.core.batches import batches
from medcli.core.chat_template import plain
from medcli.core.errors import ModelError
from medcli.core.model_ref import ADAPTER_CONFIG, ModelRef
from medcli.core.reading import Asked, last_answer
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.core.rewarder import Rewarder
from medcli.engine import lora
from medcli.engine.loaded import Loaded
from medcli.engine.log_probabilities import chosen
from medcli.engine.loss import head_apart
from medcli.engine.outline import Outline
from medcli.engine.pack import IGNORED, Batch, Example, on_device, padded, side_by_side
from medcli.engine.score_head import ENDS, judged
from medcli.engine.stages import false_alarms_off
from medcli.engine.train_arguments import precision_of

POLICY, REWARD = "default", "reward"  # names of the adapters; the first is peft's own
_DTYPES = {"bf16": torch.bfloat16}
_SCORE = "base_model.model.score.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was asked and answered: prompt and answer as ids, of which the answer's are marked, and the answer's text.

    An answer that has `ended` has its stop word as its last id.
    """

    asked: Asked
    example: Example
    ended: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """Of each token of the answers, [tokens] in their order: log-probability, entropy there (nat), and value."""

    log_probabilities: Tensor
    entropies: Tensor
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Actor(Loaded):
    """A model with an adapter that learns, a head for the value of what is still to come, and what judges answers.

    `score` [1, width] is the head of the reward adapter where the policy's model carries it; else `rewarder` is asked.
    `judge` says which it is.
    """

    value_head: nn.Linear
    precision: str
    packing: bool
    judge: str = ""
    score: Tensor | None = None
    rewarder: Rewarder | None = None

    def read(self, examples: Sequence[Example], *, temperature: float, learns_entropy: bool = False) -> Actions:
        """One forward of the policy. What is marked in `examples` are the tokens that were chosen at `temperature`."""
        ids = numpy.concatenate([example.ids[1:][example.trained[1:]] for example in examples])
        targets = torch.from_numpy(ids).long().to(self.device)
        dtype = _DTYPES.get(self.precision)
        with head_apart(self.causal_lm) as head, torch.autocast(self.device.type, dtype, dtype is not None):
            hidden = self._hidden(examples)
            found = chosen(hidden, head, targets, temperature, learns_entropy)
        values = self.value_head(hidden.float()).squeeze(-1)
        return Actions(log_probabilities=found[0], entropies=found[1], values=values)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Within the block the model is as it was before it learnt, and nothing learns."""
        with self.model.disable_adapter(), torch.no_grad():
            yield

    def scores(self, answered: Sequence[Answered], *, batch: int, advance: Callable[[int], None]) -> list[float]:
        """What each answer is worth; an answer that does not end is judged as if it did there."""
        if self.score is None:
            assert self.rewarder is not None  # it is one or the other
            dialogues = [(*one.asked.messages, Message(role="assistant", content=one.text)) for one in answered]
            return self.rewarder.rewards(dialogues, advance)
        tail = self._tail()
        found: list[float] = []
        with self._as_judge():
            for some in batches(answered, batch):
                examples = [self._to_its_end(one, tail) for one in some]
                row = judged(self._collate(examples), len(examples))
                ends = row.pop(ENDS)
                hidden = self.model(**row).logits.flatten(0, 1)[ends]
                with torch.autocast(self.device.type, enabled=False):  # half precision would make close answers equal
                    found += (hidden.float() @ self.score.T).squeeze(-1).tolist()
                advance(len(found))
        return found

    def _hidden(self, examples: Sequence[Example]) -> Tensor:
        """What the head would see before each marked token, [tokens, width]; to be called within `head_apart`."""
        batch = self._collate(examples)
        labels = batch.pop("labels")
        if batch.pop("shift_labels", None) is not None:
            hidden: Tensor = self.model(**batch).logits[0]
            return hidden
        hidden = self.model(**batch, use_cache=False).logits
        return hidden[:, :-1][labels[:, 1:] != IGNORED]

    def _collate(self, examples: Sequence[Example]) -> Batch:
        batch = side_by_side(examples) if self.packing else padded(examples, self.stops[0])
        return on_device(batch, self.device)

    def _tail(self) -> list[int]:
        """What the chat template writes after an answer's stop word, which reward models have read too."""
        segments = last_answer(self.template, [Message(role="user", content="?")], "!")
        end = max(number for number, segment in enumerate(segments) if segment.trained)
        ids: list[int] = self.tokenizer(plain(segments[end + 1 :]), add_special_tokens=False)["input_ids"]
        return ids

    def _to_its_end(self, one: Answered, tail: Sequence[int]) -> Example:
        """The whole dialogue as a reward model reads it; an answer that goes on is cut off where it must be."""
        end = [*([] if one.ended else self.stops[:1]), *tail]
        room = len(one.example.ids) if self.context is None else self.context - len(end)
        ids = numpy.append(one.example.ids[:room], end).astype(numpy.int32)
        return Example(ids=ids, trained=numpy.zeros(len(ids), bool))

    @contextmanager
    def _as_judge(self) -> Iterator[None]:
        """Within the block the reward adapter is active, and nothing learns.

        peft makes the adapter that it activates learn, and the others not: both are as they were after the block.
        """
        dtype = _DTYPES.get(self.precision)
        self.model.set_adapter(REWARD, inference_mode=True)
        try:
            with (
                torch.no_grad(),
                head_apart(self.causal_lm),
                torch.autocast(self.device.type, dtype, dtype is not None),
            ):
                yield
        finally:
            self.model.set_adapter(POLICY)


def prepare(loaded: Loaded, settings: PpoSettings) -> Loaded:
    """The model as an `Actor`; an outline, which has no weights, gets the policy's adapter alone.

    Raises ModelError when no model is called `settings.reward`, or it does not judge; ServiceError when it cannot be
    reached.
    """
    ref = None if _is_address(settings.reward) else reward_ref(settings.reward)
    adapted = lora.prepare(loaded, settings)
    if isinstance(adapted, Outline):
        return adapted
    score = rewarder = None
    name = settings.reward
    if ref is None:
        from medcli.engine.reward_service import open_reward_service

        judge, rewarder = f"the service {name}", open_reward_service(name, Silent())
    elif shares(model_ref.resolve(settings.model), ref):
        judge = f"{name}, a second adapter over the policy's own weights"
        score = lay_reward(adapted.model, ref.adapters[-1])
    else:
        from medcli.engine.reward_model import open_reward_model

        judge = f"{name}, loaded beside the policy, for it was not trained over the same weights"
        rewarder = open_reward_model(ref, device=str(adapted.device), report=Silent())
    return actor_of(adapted, settings, judge=judge, score=score, rewarder=rewarder)


def actor_of(
    adapted: Loaded,
    settings: PpoSettings,
    *,
    judge: str = "",
    score: Tensor | None = None,
    rewarder: Rewarder | None = None,
) -> Actor:
    """What `lora.prepare` gave, with a head for values, which are 0 at first."""
    value_head = nn.Linear(adapted.head.in_features, 1, device=adapted.device, dtype=torch.float32)
    nn.init.zeros_(value_head.weight)
    nn.init.zeros_(value_head.bias)
    adapted.model.eval()  # the probabilities of the same answer must not change by chance
    return Actor(
        **vars(adapted),
        value_head=value_head,
        precision=precision_of(settings, adapted.device),
        packing=settings.packing,
        judge=judge,
        score=score,
        rewarder=rewarder,
    )


def reward_ref(name: str) -> ModelRef:
    """The reward model called `name`; raises ModelError for one that speaks. Those of a hub are seen when loaded."""
    ref = model_ref.resolve(name)
    is_here = bool(ref.adapters) or ref.is_tiny or Path(ref.base).is_dir()
    if is_here and not ref.is_reward:
        raise ModelError(
            f"--reward {name}: that is no reward model, it speaks and does not judge",
            hint=f"train one over it: med train rm --model {name} --dataset PAIRS; then --reward with that run's name",
        )
    return ref


def shares(policy: ModelRef, reward: ModelRef) -> bool:
    """Whether the reward model is an adapter over the very weights that the policy begins with."""
    if not reward.adapters or not (reward.adapters[-1] / ADAPTER_CONFIG).is_file():
        return False
    return (_place(policy.base), *map(_place, policy.adapters)) == (
        _place(reward.base),
        *map(_place, reward.adapters[:-1]),
    )


def lay_reward(model: PeftModel, folder: Path) -> Tensor:
    """Lay a reward run's adapter beside the policy's, frozen and not active; returns its head, [1, width].

    Its layers have the same names: a model that classifies and one that speaks differ in their heads alone.
    Raises ModelError when it does not fit.
    """
    config = LoraConfig.from_pretrained(str(folder))
    config.modules_to_save, config.task_type, config.inference_mode = None, "CAUSAL_LM", True
    tensors = load_file(folder / "adapter_model.safetensors", device=str(model.device))
    score = tensors.pop(_SCORE, None)
    with false_alarms_off():
        model.add_adapter(REWARD, config)
    model.set_adapter(POLICY)
    found = set_peft_model_state_dict(model, tensors, REWARD)
    missing = [name for name in found.missing_keys if f".{REWARD}." in name]
    if score is None or found.unexpected_keys or missing:
        odd = [*found.unexpected_keys, *missing, _SCORE][0]
        raise ModelError(f"the reward adapter {folder} does not fit the model: {odd}", hint="train it again")
    return score.float()


def _is_address(reward: str) -> bool:
    return reward.startswith(("http://", "https://"))


def _place(base: str | Path) -> str:
    path = Path(base)
    return str(path.resolve()) if path.is_dir() else str(base)
