"""Who is talked with or asked: a model that is here, or one behind a service."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from medcli.core import model_ref
from medcli.core.loading_settings import SpeakingSettings
from medcli.core.model_ref import TINY
from medcli.core.report import Report
from medcli.core.service_ref import service_of
from medcli.core.settings import folder
from medcli.core.speaker import DISCLAIMER, TINY_DISCLAIMER


def open_speaker(model: str, settings: SpeakingSettings, report: Report) -> Any:
    """A `Speaker` that is `Answering` too: the model that is named, or the service `URL#NAME`.

    Raises UsageError, ModelError, DeviceError and ServiceError.
    """
    if service := service_of(model):
        from medcli.engine.service_speaker import ServiceSpeaker

        return ServiceSpeaker(service, report)
    ref = model_ref.resolve(model)

    from medcli.engine import remote_code, speaker

    ref = remote_code.consent(ref) if settings.trust_remote_code else ref
    if settings.engine == "vllm":
        from medcli.engine.vllm_speaker import VllmSpeaker

        return VllmSpeaker(ref, report, dtype=settings.dtype, quant=settings.quant)
    return speaker.open_speaker(
        ref,
        device=settings.device,
        report=report,
        quant=settings.quant,
        dtype=settings.dtype,
        lookup=settings.lookup,
    )


def is_at_hand(model: str) -> bool:
    """Whether it is loaded from files that are here: nothing is downloaded, and med-tiny is made already."""
    if service_of(model):
        return False
    base = model_ref.resolve(model).base
    return any(folder("cache").glob(f"{TINY}-*/config.json")) if base == TINY else Path(base).is_dir()


def unusual(settings: SpeakingSettings) -> dict[str, Any]:
    """What of the settings changes answers and is not as usual: a model in fewer bits says other things."""
    told = {name: value for name, value in asdict(settings).items() if name in ("quant", "dtype", "engine")}
    return {name: value for name, value in told.items() if value not in ("none", "auto", "med")}


def is_tiny(model: str) -> bool:
    """Whether it is the demonstration model, or rests on it; raises ModelError for a model that is not there."""
    return service_of(model) is None and model_ref.resolve(model).is_tiny


def notice_of(model: str) -> str:
    """What a person must know before the first answer."""
    return TINY_DISCLAIMER if is_tiny(model) else DISCLAIMER


def shown(model: str) -> str:
    """The model as a person reads it: what it is made of."""
    if service := service_of(model):
        return str(service)
    ref = model_ref.resolve(model)
    return "".join([ref.base, *(f" + {adapter}" for adapter in ref.adapters)]) if model != TINY else TINY
