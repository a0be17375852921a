"""From a ModelRef to a model, its tokenizer and its chat template."""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import huggingface_hub
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from medcli.core import chat_template
from medcli.core.chat_template import ChatTemplate
from medcli.core.errors import ModelError, ServiceError
from medcli.core.model_ref import TINY, ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.engine import tiny


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to speak or to learn. `stops` are the ids that end an answer."""

    model: Any
    tokenizer: Any
    template: ChatTemplate
    stops: tuple[int, ...]
    base: str

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device


def load(
    ref: ModelRef,
    *,
    device: torch.device,
    report: Report,
    dtype: torch.dtype | None = None,
    template: str = "",
    attention: str = "sdpa",
    merge: bool = False,
) -> Loaded:
    """Load `ref` with its adapters, the last one merged too when `merge`.

    Weights must be safetensors, and no code of the model's folder is run.

    Raises ModelError when a part is missing or does not fit, ServiceError when the hub cannot be reached.
    """
    tokenizer, chosen = load_tokenizer(ref, report, template)
    base = _base_of(ref, report)
    report.stage(f"loading {ref.base}")
    model = _weights(base, device, dtype, attention)
    for adapter in ref.adapters[:-1]:
        model = _with_adapter(model, adapter, base).merge_and_unload()
    if ref.adapters:
        model = _with_adapter(model, ref.adapters[-1], base)
        model = model.merge_and_unload() if merge else model
    model.eval()
    return Loaded(model=model, tokenizer=tokenizer, template=chosen, stops=_stops(model, tokenizer, chosen), base=base)


def load_tokenizer(ref: ModelRef, report: Report, template: str = "") -> tuple[Any, ChatTemplate]:
    """The tokenizer of `ref` and its chat template, without the model."""
    tokenizer = plain_tokenizer(ref, report)
    return tokenizer, template_of(tokenizer, ref, template)


def plain_tokenizer(ref: ModelRef, report: Report) -> Any:
    """The tokenizer of `ref`, whether or not it has a chat template."""
    base = _base_of(ref, report)
    with _problems_said(base):
        where = str(ref.adapters[-1]) if _has_tokenizer(ref) else base
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False, local_files_only=_is_offline(where))


def plain_model(ref: ModelRef, report: Report) -> Any:
    """The base model of `ref` on the CPU, in the precision it is stored in, whether or not it has a chat template."""
    report.stage(f"loading {ref.base}")
    return _weights(_base_of(ref, report), torch.device("cpu"), "auto", "sdpa")


def _weights(base: str, device: torch.device, dtype: torch.dtype | Literal["auto"] | None, attention: str) -> Any:
    with _problems_said(base):
        offline = _is_offline(base)
        config = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=offline)
        return AutoModelForCausalLM.from_pretrained(
            base,
            config=config,
            dtype=dtype or _own_dtype(config, device),
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=offline,
            trust_remote_code=False,
        ).to(device)


def _base_of(ref: ModelRef, report: Report) -> str:
    return str(tiny.ensure(report)) if ref.base == TINY else ref.base


def template_of(tokenizer: Any, ref: ModelRef, wanted: str = "") -> ChatTemplate:
    """The template asked for, else the run's, else the model's own; ModelError when there is none that fits."""
    if not tokenizer.is_fast:
        raise ModelError(f"{ref.base} has no fast tokenizer", hint="convert it to tokenizer.json with transformers")
    if wanted:
        name, text = wanted, chat_template.shipped_text(wanted)
    elif ref.template is not None:
        name, text = ref.template.name, ref.template.read_text("utf-8")
    elif tokenizer.chat_template:
        name, text = "the model's own", _marked_twin(tokenizer) or tokenizer.chat_template
    else:
        raise ModelError(
            f"{ref.base} has no chat template",
            hint=f"choose one with --template: {', '.join(chat_template.shipped_names())}",
        )
    template = _compiled(name, text, tokenizer)
    _check_fit(template, tokenizer, ref)
    return template


def _compiled(name: str, text: str, tokenizer: Any) -> ChatTemplate:
    special = tuple(dict.fromkeys([*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())]))
    reserved = tuple(word for word in special if len(word) > 1 and not word.isspace())
    tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return ChatTemplate(name=name, text=text, tokens=tokens, reserved=reserved)


def _marked_twin(tokenizer: Any) -> str:
    """One of our templates that renders as the model's own does: it says exactly what the assistant wrote."""
    probes = [
        [
            Message(role="user", content="甲"),
            Message(role="assistant", content="乙"),
            Message(role="user", content="丙"),
        ],
        [
            Message(role="system", content="丁"),
            Message(role="user", content="甲"),
            Message(role="assistant", content="乙"),
        ],
    ]
    own = _compiled("own", tokenizer.chat_template, tokenizer)
    for name in chat_template.shipped_names():
        ours = _compiled(name, chat_template.shipped_text(name), tokenizer)
        if all(_same(own, ours, probe, ask) for probe in probes for ask in (False, True)):
            return ours.text
    return ""


def _same(own: ChatTemplate, ours: ChatTemplate, messages: Sequence[Message], ask: bool) -> bool:
    try:
        return own.text_of(messages, ask) == ours.text_of(messages, ask)
    except ModelError:  # a template may refuse a system message; then the two are not the same
        return False


def _check_fit(template: ChatTemplate, tokenizer: Any, ref: ModelRef) -> None:
    """A template whose stop word is no single token of the tokenizer belongs to another model."""
    for stop in template.stops:
        if len(tokenizer(stop, add_special_tokens=False)["input_ids"]) != 1:
            raise ModelError(
                f"the chat template '{template.name}' does not fit {ref.base}: its stop word {stop} is no single token",
                hint="train again with --template, or use the model this template was saved with",
            )


def _stops(model: Any, tokenizer: Any, template: ChatTemplate) -> tuple[int, ...]:
    ends = [tokenizer.convert_tokens_to_ids(stop) for stop in template.stops]
    own = model.generation_config.eos_token_id
    ends += own if isinstance(own, list) else [own]
    ends.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(end for end in ends if end is not None))


def _own_dtype(config: Any, device: torch.device) -> torch.dtype:
    """Half precision as stored on a GPU; float32 on a CPU, where half precision answers are slower and differ."""
    if device.type == "cpu":
        return torch.float32
    return config.dtype or torch.bfloat16


def _check_tiny(adapter: Path, base: str) -> None:
    """med-tiny is made anew when its recipe changes; an adapter of an older one would speak nonsense in silence."""
    trained_on = Path(json.loads((adapter / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]).name
    if trained_on.startswith(f"{TINY}-") and trained_on != Path(base).name:
        raise ModelError(
            f"{adapter} was trained on {trained_on}, but this med makes {Path(base).name}",
            hint="train it again: `med train lora --from run.toml`, or `med quickstart`",
        )


def _has_tokenizer(ref: ModelRef) -> bool:
    return bool(ref.adapters) and (ref.adapters[-1] / "tokenizer_config.json").is_file()


def _with_adapter(model: Any, adapter: Path, base: str) -> Any:
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():  # peft would go on to a pickle, then to the hub
        raise ModelError(f"{adapter} holds no adapter_model.safetensors", hint="pickled adapters are not loaded")
    _check_tiny(adapter, base)
    try:
        return PeftModel.from_pretrained(model, adapter)
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"the adapter {adapter} does not fit its base model: {first}") from error


@contextmanager
def _problems_said(base: str) -> Iterator[None]:
    """One message for what loading a model can run into."""
    try:
        yield
    except OSError as error:
        if Path(base).exists():
            raise ModelError(f"{base}: {_first_line(error)}", hint="is the folder complete?") from error
        raise ServiceError(
            f"the model '{base}' could not be fetched: {_first_line(error)}",
            hint="check the name and the network, set HF_ENDPOINT to a mirror, or download it and name the folder;\n"
            "--model med-tiny needs no network",
        ) from error
    except SafetensorError as error:
        raise ModelError(f"{base}: the weights are damaged: {error}", hint="fetch or copy them again") from error
    except (ValueError, KeyError) as error:
        hint = "is the folder complete? A model that needs code of its own is not supported: med runs none"
        raise ModelError(f"{base}: {_first_line(error)}", hint=hint) from error


def _is_offline(base: str) -> bool:
    """Whether only files at hand can serve: a folder, or no way to the hub. The hub's own retries take a minute."""
    if Path(base).exists():
        return True
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        socket.create_connection((hub.hostname or "", hub.port or (443 if hub.scheme == "https" else 80)), 5).close()
    except OSError:
        return True
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
