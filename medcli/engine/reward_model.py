"""A trained reward model: how good each answer is, as a number."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, GenerationConfig

from medcli.core.chat_template import ChatTemplate
from medcli.core.errors import DataError, ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.reading import last_answer
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.engine import attention, remote_code, stages
from medcli.engine import device as devices
from medcli.engine.encode import encode, shorter
from medcli.engine.load import load, load_tokenizer, opened, stops_of
from medcli.engine.loaded import Loaded
from medcli.engine.pack import Example, on_device
from medcli.engine.score_head import AtEnds, batch_of, classifier_of, kind_of, made_ready, packs
from medcli.engine.weights import base_weights, config_of, is_classifier

TOKENS = 8192  # judged together


class RewardModel:
    """A `Rewarder` over a sequence classifier of one number."""

    def __init__(self, loaded: Loaded) -> None:
        """`loaded.model` is the classifier, with or without an adapter over it."""
        self.loaded = loaded
        self._reader = AtEnds()
        self._packing = _attends_by_document(loaded)

    def scores(self, examples: Sequence[Example], advance: Callable[[int], None] = lambda done: None) -> list[float]:
        """The reward at the last token of each example, in order; computed in batches of like length."""
        found = [0.0] * len(examples)
        done = 0
        with torch.no_grad(), self._reader.laid_on(self.loaded.causal_lm):
            for places in _batches([len(example.ids) for example in examples]):
                batch = batch_of([examples[place] for place in places], self._pad, packing=self._packing)
                rewards = self._reader.rewards(self.loaded.model, on_device(batch, self.loaded.device))
                for place, reward in zip(places, rewards.tolist(), strict=True):
                    found[place] = reward
                done += len(places)
                advance(done)
        return found

    def rewards(self, dialogues: Sequence[Sequence[Message]], advance: Callable[[int], None]) -> list[float]:
        """The reward of each dialogue's last message, an answer, rendered by the model's own template.

        Of a dialogue that is too long the oldest exchanges are dropped, as in the training. Raises DataError when a
        dialogue does not end with an answer, or its last exchange alone does not fit.
        """
        return self.scores([self._encoded(dialogue) for dialogue in dialogues], advance)

    def fits(self, dialogue: Sequence[Message]) -> bool:
        """Whether the dialogue's last exchange, at least, is short enough to be read."""
        return self._read(dialogue)[1]

    @property
    def _pad(self) -> int:
        pad = self.loaded.tokenizer.pad_token_id
        return self.loaded.stops[0] if pad is None else int(pad)

    def _encoded(self, dialogue: Sequence[Message]) -> Example:
        example, fits = self._read(dialogue)
        if not fits:
            raise DataError(
                f"an answer of {len(example.ids)} tokens with its question: "
                f"the reward model reads at most {self.loaded.context}",
                hint="have shorter answers drawn, or take a reward model with a longer context",
            )
        return example

    def _read(self, dialogue: Sequence[Message]) -> tuple[Example, bool]:
        """The dialogue with as few of its oldest exchanges dropped as need be, and whether what is left fits."""
        if not dialogue or dialogue[-1].role != "assistant":
            raise DataError("a reward is asked for what is no answer", hint="end each dialogue with the assistant")
        limit, prompt, answer = self.loaded.context, dialogue[:-1], dialogue[-1].content
        for kept in (prompt, *(kept for _, kept in shorter(prompt))):
            example = encode([last_answer(self.loaded.template, kept, answer)], self.loaded.tokenizer)[0]
            if limit is None or len(example.ids) <= limit:
                return example, True
        return example, False


def open_reward_model(ref: ModelRef, *, device: str, report: Report, template: str = "") -> RewardModel:
    """The reward model `ref`: a run's, an adapter over its base, or a whole classifier's folder or hub id.

    `template` is the chat template asked for; its own when not given. Weights must be safetensors.

    Raises ModelError when `ref` is no reward model or a part of it does not fit, ServiceError when the hub cannot be
    reached.
    """
    where = devices.pick(device)
    if ref.adapters and not ref.is_reward:
        raise _no_reward_model(str(ref.adapters[-1]))
    tokenizer, chosen = load_tokenizer(ref, report, template)
    loaded = _adapted(ref, where, report, template) if ref.adapters else _whole(ref, tokenizer, chosen, where, report)
    loaded.model.eval().requires_grad_(False)
    return RewardModel(replace(loaded, tokenizer=tokenizer, template=chosen))


def _adapted(ref: ModelRef, device: torch.device, report: Report, template: str) -> Loaded:
    before = replace(ref, adapters=ref.adapters[:-1])
    loaded = load(before, device=device, report=report, template=template, merge=True)
    pad = loaded.tokenizer.pad_token_id
    classifier = classifier_of(loaded.model, loaded.stops[0] if pad is None else pad, seed=0)
    model = stages.lay_over(classifier, ref.adapters[-1:], loaded.base, merge=False, trainable=False)
    return replace(loaded, model=model)


def _whole(ref: ModelRef, tokenizer: Any, template: ChatTemplate, device: torch.device, report: Report) -> Loaded:
    base, trusted = opened(ref, report, weights=True)
    report.stage(f"loading {ref.base}")
    with remote_code.said(base, trusted):
        config = config_of(base, trusted)
        if not is_classifier(config):
            raise _no_reward_model(ref.base)
        if config.num_labels != 1:
            raise ModelError(
                f"{ref.base} tells {config.num_labels} classes apart: it is no reward model",
                hint="a reward model has one label, its reward",
            )
        kind = kind_of(type(config)) or AutoModelForSequenceClassification
        model, stored = base_weights(base, device, None, None, trusted=trusted, kind=kind)
    model.generation_config = GenerationConfig.from_model_config(config)  # where the words that end an answer stand
    stops = stops_of(model, tokenizer, template)
    pad = tokenizer.pad_token_id
    model = made_ready(model, stops[0] if pad is None else pad)
    return Loaded(model=model, tokenizer=tokenizer, template=template, stops=stops, base=base, stored=stored)


def _no_reward_model(name: str) -> ModelError:
    return ModelError(f"{name} is no reward model", hint="train one: med train rm --model REF --dataset PAIRS")


def _attends_by_document(loaded: Loaded) -> bool:
    """Let the model read rows without padding, when it can."""
    classifier = loaded.causal_lm
    before = classifier.config._attn_implementation
    try:
        classifier.set_attn_implementation(attention.NAME)
        able = packs(classifier, loaded.device)
    except (ValueError, KeyError):  # attention of its own
        able = False
    if not able:
        classifier.set_attn_implementation(before)
    return able


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of examples of like length, shortest first, at most TOKENS of them together with padding."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and (len(batch) + 1) * lengths[place] > TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
