"""Answers to the same few questions while a model learns, so that a person sees it change."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from medcli.core.atomic import writing
from medcli.core.chat_template import plain
from medcli.core.prompts import QUESTIONS
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings
from medcli.engine import attention
from medcli.engine.loaded import Loaded
from medcli.engine.loss import head_itself
from medcli.engine.pack import Example, Pairs, Samples, flat
from medcli.engine.train_arguments import precision_of

_ASKED = 3  # questions
_TOKENS = 64  # of an answer
_OPENING = 12  # tokens of a document that the model is to go on with
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, as a person reads it and as ids."""

    text: str
    ids: tuple[int, ...]


class Answers(TrainerCallback):
    """Asks before the first step, every `sample_every` steps, and after the last one.

    The answers go to the report and, as {step, question, answer}, to the run's samples.jsonl. Neither the random
    numbers nor the weights are touched: the run is bitwise the same without.
    """

    def __init__(
        self, loaded: Loaded, valid: Samples | None, settings: TrainSettings, run: RunFolder, report: Report
    ) -> None:
        self._loaded, self._settings, self._run, self._report = loaded, settings, run, report
        self._prompts = prompts(loaded, valid)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = lines_until(self._run, state.global_step) if state.global_step else []
        if state.is_world_process_zero:
            with writing(self._run.samples_file) as file:
                file.writelines(kept)
        if state.global_step == 0:
            self._ask(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._settings.sample_every == 0 or state.global_step >= state.max_steps:
            self._ask(state)

    def _ask(self, state: Any) -> None:
        # Sharded weights need every process in every forward; copies do not.
        if self._settings.strategy == "ddp" and not state.is_world_process_zero:
            return
        answers = answer(self._loaded, self._prompts, self._settings)
        if not state.is_world_process_zero:
            return
        with self._run.samples_file.open("a", encoding="utf-8") as file:
            for prompt, said in zip(self._prompts, answers, strict=True):
                self._report.note(f"step {state.global_step}: {prompt.text} → {' '.join(said.split()) or '(nothing)'}")
                row = {"step": state.global_step, "question": prompt.text, "answer": said}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def prompts(loaded: Loaded, valid: Samples | None) -> list[Prompt]:
    """What the first validation samples ask, or how they begin when they are documents; else fixed questions."""
    if valid is not None:
        first = flat([valid[index] for index in range(min(_ASKED, len(valid)))])
        first = (first[::2] if isinstance(valid, Pairs) else first)[:_ASKED]  # a pair asks the same twice
        return [_prompt_of(loaded, example) for example in first]
    asked = [loaded.template.render([Message(role="user", content=text)], ask=True) for text in QUESTIONS[:_ASKED]]
    ids = loaded.tokenizer([plain(segments) for segments in asked], add_special_tokens=False)["input_ids"]
    return [Prompt(text, tuple(one)) for text, one in zip(QUESTIONS, ids, strict=False)]


def _prompt_of(loaded: Loaded, example: Example) -> Prompt:
    """All before the first answer; a document, which is learnt from its first token on, gives its opening."""
    opening = _OPENING if example.trained.any() else len(example.ids)  # of a mere prompt nothing is learnt
    asked = int(example.trained.argmax()) or min(opening, len(example.ids))
    ids = example.ids[:asked].tolist()
    return Prompt(" ".join(loaded.tokenizer.decode(ids, skip_special_tokens=True).split()), tuple(ids))


def answer(loaded: Loaded, asked: Sequence[Prompt], settings: TrainSettings) -> list[str]:
    """The model's likeliest words after each prompt, in the precision of the training."""
    model, device = loaded.model, loaded.device
    dtype = _DTYPES.get(precision_of(settings, device))
    how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "use_cache": True}
    texts = []
    with _speaking(loaded, settings), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        for prompt in asked:
            ids = torch.tensor([prompt.ids], device=device)
            room = _TOKENS if loaded.context is None else min(_TOKENS, loaded.context - len(prompt.ids))
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=room,
                eos_token_id=list(loaded.stops), pad_token_id=loaded.stops[0], repetition_penalty=1.0, **how,
            )  # fmt: skip
            said = out[0, len(prompt.ids) :].tolist()
            texts.append(loaded.tokenizer.decode(said, skip_special_tokens=True).rstrip("\ufffd"))
    return texts


@contextmanager
def _speaking(loaded: Loaded, settings: TrainSettings) -> Iterator[None]:
    """The model as it speaks: logits from its head, plain attention, no dropout, random numbers of its own."""
    model, causal_lm, was_training = loaded.model, loaded.causal_lm, loaded.model.training
    devices = [loaded.device] if loaded.device.type == "cuda" else []
    model.eval()
    if settings.packing:
        causal_lm.set_attn_implementation("sdpa" if causal_lm._supports_sdpa else "eager")
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices), head_itself(causal_lm):
            yield
    finally:
        if settings.packing:
            causal_lm.set_attn_implementation(attention.NAME)
        model.train(was_training)


def lines_until(run: RunFolder, step: int) -> list[str]:
    """What was answered up to `step`: a resumed run writes the rest again."""
    if not run.samples_file.is_file():
        return []
    lines = run.samples_file.read_text("utf-8").splitlines(keepends=True)
    return [line for line in lines if json.loads(line)["step"] <= step]
