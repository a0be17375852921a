"""The command line with which vLLM serves what `med serve` would."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medcli.core import vllm
from medcli.core.errors import UsageError
from medcli.core.model_ref import ModelRef
from medcli.steps.serve import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, and what to put into its environment: keys must not stand on a command line."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


def command(refs: Mapping[str, ModelRef], settings: Settings, keys: Sequence[str]) -> Command:
    """`vllm serve …`, for models that are one base with an adapter each, or none.

    Raises UsageError where vLLM is not installed or cannot do what is asked, ModelError for adapters that it does not
    know.
    """
    program = shutil.which("vllm")
    if program is None:
        raise UsageError("vllm is not installed", hint='pip install "medcli[vllm]", or leave out --engine vllm')
    _check(settings, keys)
    base = _base(refs)
    plain = [name for name, ref in refs.items() if not ref.adapters]
    words = [program, "serve", base, "--served-model-name", *(plain or [Path(base).name])]
    words += ["--host", settings.host, "--port", str(settings.port), "--dtype", settings.dtype]
    words += ["--max-num-seqs", str(settings.slots), *_template(refs), *_adapters(refs)]
    if settings.trust_remote_code:
        words.append("--trust-remote-code")
    return Command(words=tuple(words), environment={"VLLM_API_KEY": keys[0]} if keys else {})


def _check(settings: Settings, keys: Sequence[str]) -> None:
    for flag, given in {
        "--kb": settings.kb,
        "--log": settings.log,
        "--rate-limit": settings.rate_limit,
        "--quant": settings.quant != "none",
        "--max-tokens": settings.max_tokens,
        "--cors-origin": settings.cors_origin,
    }.items():
        if given:
            raise UsageError(f"{flag} does not go with --engine vllm", hint="leave out one of them")
    if len(keys) > 1:
        raise UsageError(
            "vLLM takes one key", hint="leave one line in the file of keys, and no MED_SERVE_KEY beside it"
        )


def _base(refs: Mapping[str, ModelRef]) -> str:
    bases = {ref.base for ref in refs.values()}
    if len(bases) > 1:
        raise UsageError(
            f"vLLM serves one base model, and these have {len(bases)}: {', '.join(sorted(bases))}",
            hint="start a server for each",
        )
    if (base := bases.pop()) == "med-tiny":
        raise UsageError("med-tiny is not served by vLLM", hint="leave out --engine vllm")
    return base


def _template(refs: Mapping[str, ModelRef]) -> list[str]:
    templates = {ref.template.read_text("utf-8"): ref.template for ref in refs.values() if ref.template}
    if len(templates) > 1:
        raise UsageError("vLLM has one chat template for all, and these have different ones")
    return ["--chat-template", str(next(iter(templates.values())))] if templates else []


def _adapters(refs: Mapping[str, ModelRef]) -> list[str]:
    laid = {name: ref.adapters for name, ref in refs.items() if ref.adapters}
    if not laid:
        return []
    room = vllm.room_for(max(vllm.rank_of(name, adapters) for name, adapters in laid.items()))
    modules = [f"{name}={adapters[0]}" for name, adapters in laid.items()]
    return ["--enable-lora", "--max-lora-rank", str(room), "--max-loras", str(len(laid)), "--lora-modules", *modules]
