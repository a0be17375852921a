"""Python files that a model brings along: refused, or run with the user's consent to exactly these files.

A model needs them when its config.json names classes by `auto_map` and transformers does not know its model_type. The
consent is the sha256 of every Python file beside the weights; it is kept in run.toml, and holds for no other file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.utils import cached_file

from medcli.core.atomic import sha256_of
from medcli.core.errors import MedError, ModelError
from medcli.core.model_ref import TINY, ModelRef
from medcli.engine import attention
from medcli.engine.weights import is_offline, problems_said

SMALL = ("*.py", "*.json", "*.model", "*.txt", "*.jinja")
WEIGHTS = "*.safetensors"
# By model_type: what transformers knows, of about the same size and language.
_NATIVE = {
    "chatglm": "zai-org/glm-4-9b-chat-hf or zai-org/GLM-4-9B-0414",
    "baichuan": "Qwen/Qwen2.5-7B-Instruct",
    "qwen": "Qwen/Qwen2.5-7B-Instruct",
    "internlm": "internlm/internlm3-8b-instruct",
    "internlm2": "internlm/internlm3-8b-instruct",
    "minicpm": "openbmb/MiniCPM3-4B",
}


def consent(ref: ModelRef) -> ModelRef:
    """`ref` with the user's consent to run the Python files of its base as they are now; as it is when it needs none.

    Raises ModelError when the files lie elsewhere, ServiceError when the hub cannot be reached.
    """
    if ref.base == TINY or not _config_of_foreign(ref.base):
        return replace(ref, code=None)
    return replace(ref, code=_hashes(_folder(ref.base, SMALL)))


def opened(ref: ModelRef, *, weights: bool) -> tuple[str, bool]:
    """Where the base of `ref` is to be loaded from, and whether the Python files there are to be run.

    Code from the hub is run from the very files that were checked; the `weights` beside them are fetched if wanted.

    Raises ModelError when it needs code to which the user did not consent, naming the file that changed.
    """
    config = _config_of_foreign(ref.base)
    if not config:
        return ref.base, False
    if ref.code is None:
        raise ModelError(
            f"{ref.base} brings Python files of its own, for transformers knows no '{config.get('model_type')}' model",
            hint=f"read them, then let them run with --trust-remote-code; or {_instead(config)}",
        )
    folder = _folder(ref.base, (*SMALL, WEIGHTS) if weights else SMALL)
    _check(folder, ref.code)
    return str(folder), True


@contextmanager
def said(base: str, trusted: bool) -> Iterator[None]:
    """Within the block code of a model's folder runs: whatever it raises becomes one ModelError."""
    try:
        yield
    except (MedError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if not trusted:
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(
            f"the code in {base} does not run under transformers {transformers.__version__}: "
            f"{type(error).__name__}: {first}",
            hint=f"it was written for another version; {_instead(_config_of_foreign(base))}",
        ) from error


@torch.no_grad()
def try_out(model: Any) -> None:
    """Ask foreign code for all that training and speaking will: a loss, and the next token from a cache."""
    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    with attention.own(model):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
        said = model(input_ids=ids, use_cache=True)
        model(input_ids=ids[:, :1], past_key_values=said.past_key_values, use_cache=True)


def _instead(config: Mapping[str, Any]) -> str:
    native = _NATIVE.get(str(config.get("model_type")), "a Qwen, GLM-4 or Llama model")
    return f"take one that transformers knows: {native}"


def _config_of_foreign(base: str) -> dict[str, Any]:
    """config.json when it asks for code of its own, else nothing."""
    with problems_said(base):
        path = cached_file(base, "config.json", local_files_only=is_offline(base))
        if path is None:  # a tokenizer alone
            return {}
        config: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    if not config.get("auto_map") or config.get("model_type") in CONFIG_MAPPING:
        return {}
    if elsewhere := [str(name) for name in config["auto_map"].values() if "--" in str(name)]:
        raise ModelError(
            f"{base} takes its code from another place: {elsewhere[0].partition('--')[0]}",
            hint=f"only files beside the weights can be agreed to; {_instead(config)}",
        )
    return config


def _folder(base: str, files: Sequence[str]) -> Path:
    """The folder of the base; of a hub id, the snapshot that now holds `files`."""
    if Path(base).is_dir():
        return Path(base)
    with problems_said(base):
        return Path(
            huggingface_hub.snapshot_download(base, allow_patterns=list(files), local_files_only=is_offline(base))
        )


def _hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*.py"))}


def _check(folder: Path, agreed: Mapping[str, str]) -> None:
    """A file that is gone can do no harm; a new one can, for others may import it."""
    for name, value in _hashes(folder).items():
        if agreed.get(name) != value:
            what = (
                "has changed since it was agreed to" if name in agreed else "was not there when the code was agreed to"
            )
            raise ModelError(f"{folder / name} {what}", hint="read it; then agree again with --trust-remote-code")
