"""Base weights from a folder or the hub: safetensors only, in the precision that serves."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import huggingface_hub
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from medcli.core.errors import ModelError, ServiceError
from medcli.engine import attention as by_document
from medcli.engine import quantisation


def base_weights(
    base: str,
    device: torch.device,
    dtype: torch.dtype | Literal["auto"] | None,
    attention: str | None,
    *,
    quant: str = "none",
    trusted: bool = False,
    kind: Any = AutoModelForCausalLM,
) -> tuple[Any, torch.dtype]:
    """The model in `base`, a folder or a hub id, on `device`, and the precision it is stored in.

    `attention` names an implementation; None takes what suits the model. `quant` "4bit" or "8bit" packs the matrices by
    bitsandbytes; Python files in `base` are run only when `trusted`; `kind` is transformers' class of what it is to be.

    Raises ModelError, DeviceError or ServiceError; a reward model is no language model.
    """
    quantisation.check(quant, device)
    placed = {} if quant == "none" else quantisation.placement(quant, device)
    with problems_said(base):
        config = config_of(base, trusted)
        if kind is AutoModelForCausalLM and is_classifier(config):
            raise speaks_not(base)
        stored = config.dtype or torch.float32
        if dtype is None:
            dtype = quantisation.dtype(device) if placed else own_dtype(config, device)
        model = kind.from_pretrained(
            base,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=is_offline(base),
            trust_remote_code=trusted,
            **placed,
        )
    return (quantisation.ready(model) if placed else model.to(device)), stored


def config_of(base: str, trusted: bool) -> PreTrainedConfig:
    """The configuration of the model in `base`, a folder or a hub id."""
    with problems_said(base):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            base, trust_remote_code=trusted, local_files_only=is_offline(base)
        )
    return config


def is_classifier(config: PreTrainedConfig) -> bool:
    """Whether such a model classifies texts, as reward models do; it would speak with a head of random numbers."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def speaks_not(name: str) -> ModelError:
    """What is said of a reward model where a language model is wanted."""
    return ModelError(
        f"{name} is a reward model: it judges answers and does not speak",
        hint="have it judge pairs of answers: med eval RUN --dataset PAIRS",
    )


def own_dtype(config: Any, device: torch.device) -> torch.dtype:
    """Half precision as stored on a GPU; float32 on a CPU, where half precision answers are slower and differ."""
    if device.type == "cpu":
        return torch.float32
    return config.dtype or torch.bfloat16


@contextmanager
def problems_said(base: str) -> Iterator[None]:
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
        if error.args == (by_document.NAME,):  # the model chooses among attention classes of its own
            raise ModelError(f"{base} has attention of its own", hint="train it with --no-packing") from error
        hint = "is the folder complete, and is it a language model that this transformers knows?"
        raise ModelError(f"{base}: {_first_line(error)}", hint=hint) from error


def is_offline(base: str) -> bool:
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
