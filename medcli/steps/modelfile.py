"""The Modelfile by which Ollama answers as `med chat` does: the same template, stop words and ways to choose."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medcli.core import ollama
from medcli.core.model_ref import ModelRef
from medcli.core.report import Report
from medcli.core.sampling_settings import SamplingSettings
from medcli.steps.model_card import DISCLAIMERS

FILE = "Modelfile"


def text_of(
    ref: ModelRef, base: Path, weights: str, report: Report, *, system: str, temperature: float, licence: str
) -> str:
    """The Modelfile of `ref`, whose base lies in `base`, for `weights` beside it.

    Raises ModelError when the chat template cannot be said in Ollama's words, UsageError for a `system` that cannot.
    """
    from medcli.engine.load import load_tokenizer

    tokenizer, template = load_tokenizer(ref, report)
    turns = ollama.turns_of(template, _added(tokenizer))
    ends = [*template.stops, *_ends(base, tokenizer), tokenizer.eos_token]
    defaults = SamplingSettings()
    parameters: list[tuple[str, float | str]] = [
        ("temperature", temperature), ("top_p", defaults.top_p), ("top_k", defaults.top_k),
        ("repeat_penalty", defaults.repetition_penalty),
        *(("stop", end) for end in dict.fromkeys(filter(None, ends))),
    ]  # fmt: skip
    said = f"{licence or 'see README.md beside this file'}\n\n{DISCLAIMERS}"
    return ollama.modelfile(weights, turns, parameters, system=system, licence=said)


def _added(tokenizer: Any) -> str:
    """The word that the tokenizer puts before every text by itself, as Ollama will; "" when it puts none there."""
    bos = tokenizer.bos_token
    return str(bos) if bos and tokenizer("甲")["input_ids"][:1] == [tokenizer.bos_token_id] else ""


def _ends(base: Path, tokenizer: Any) -> Iterator[str]:
    """The words at which the model's own settings end an answer."""
    path = base / "generation_config.json"
    ids = json.loads(path.read_text("utf-8")).get("eos_token_id") if path.is_file() else None
    for one in ids if isinstance(ids, list) else [] if ids is None else [ids]:
        yield str(tokenizer.convert_ids_to_tokens(one))
