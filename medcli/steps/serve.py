"""Serve models over HTTP: what can be set, how the models are called, and who may ask."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medcli.core import model_ref
from medcli.core.atomic import storage_error
from medcli.core.errors import ModelError, UsageError
from medcli.core.loading_settings import LoadingSettings
from medcli.core.model_ref import TINY, ModelRef
from medcli.core.service_ref import service_of
from medcli.core.settings import serving_key, setting

_OTHERS = 0o077  # rights of group and world
_KEY_ADVICE = "make one: openssl rand -hex 24 > key.txt; chmod 600 key.txt; then --api-key-file key.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(LoadingSettings):
    """What can be set on the command line."""

    name: tuple[str, ...] = setting((), help="What clients call the models, in their order; else their last part.")
    host: str = setting("127.0.0.1", help="The address to listen at; one that others reach needs a key.")
    port: int = setting(8000, help="The port to listen at; 0 takes a free one.", minimum=0)
    api_key_file: str = setting("", help="File of keys, one a line, of which clients show one; or MED_SERVE_KEY.")
    rate_limit: int = setting(0, help="Requests a minute that each key may make; 0 is no limit.", minimum=0)
    cors_origin: tuple[str, ...] = setting((), help="Web pages of these addresses may ask too, such as https://a.org.")
    page: bool = setting(True, help="Show a page for the browser at /.")
    kb: str = setting("", help="Knowledge base whose passages answers rest on, and cite.")
    slots: int = setting(8, help="Requests that are answered at the same time.", minimum=1)
    waiting: int = setting(64, help="Requests that may wait for a slot; more are told to come back.", minimum=0)
    time_limit: float = setting(300.0, help="Seconds after which an answer is cut; 0 is no limit.", minimum=0)
    max_tokens: int | None = setting(None, help="The longest answer that may be asked for, in tokens.", minimum=1)
    patience: float = setting(30.0, help="Seconds that running answers get to end when the server stops.", minimum=0)
    log: str = setting(
        "", help="Append conversations, with patient identifiers masked, to this file; else none is kept."
    )
    engine: Literal["med", "vllm"] = setting("med", help="What runs the models: vllm hands over to `vllm serve`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Flags):
    """All settings of `serve`; the models are arguments on the command line, so they are no flag."""

    model: tuple[str, ...] = setting((), help="The models to serve when the command line names none.")


def served(settings: Settings) -> dict[str, ModelRef]:
    """The models by the names that clients call them.

    Raises UsageError for a name that two have and for a model that lies behind a service, ModelError for one that is
    not there or does not speak.
    """
    models = settings.model or (TINY,)
    if settings.name and len(settings.name) != len(models):
        raise UsageError(
            f"--name has {len(settings.name)} names for {len(models)} models",
            hint="--name A,B names them in their order",
        )
    found: dict[str, ModelRef] = {}
    for name, model in zip(settings.name or map(_name_of, models), models, strict=True):
        if name in found:
            raise UsageError(
                f"two models would be called '{name}'",
                hint=f"name them: --name {','.join(f'NAME{n + 1}' for n in range(len(models)))}",
            )
        found[name] = _speaking(model)
    return found


def keys_of(settings: Settings, note: Callable[[str], None]) -> tuple[str, ...]:
    """The keys of which clients must show one; none where nobody else can reach the server.

    Raises UsageError when others can and there is no key, and for a file of keys that cannot be used.
    """
    keys = [key] if (key := serving_key()) else []
    if settings.api_key_file:
        keys += _keys_in(Path(settings.api_key_file).expanduser(), note)
    for key in keys:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError("a key must be of letters, digits and signs without spaces", hint=_KEY_ADVICE)
    if not keys and not is_local(settings.host):
        raise UsageError(
            f"--host {settings.host} can be reached by others, and no key is set",
            hint=f"{_KEY_ADVICE}\nor export MED_SERVE_KEY=…; or leave out --host",
        )
    return tuple(dict.fromkeys(keys))


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens at `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(host: str, port: int) -> str:
    """Where a browser on this machine finds it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _name_of(model: str) -> str:
    return Path(model.rstrip("/")).name or model


def _speaking(model: str) -> ModelRef:
    if (service := service_of(model)) is not None:
        raise UsageError(
            f"{service} is served already", hint="med serve takes models that are here; ask the service itself"
        )
    ref = model_ref.resolve(model)
    if ref.is_reward:
        raise ModelError(f"{model} is a reward model: it judges answers and gives none")
    if ref.base == TINY or not Path(ref.base).is_dir():
        return ref
    return replace(ref, base=str(Path(ref.base).resolve()))  # one base is loaded once, however it was named


def _keys_in(path: Path, note: Callable[[str], None]) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
        rights = path.stat().st_mode
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file", hint=_KEY_ADVICE) from error
    except FileNotFoundError as error:
        raise UsageError(f"--api-key-file: {path} is not there", hint=_KEY_ADVICE) from error
    except OSError as error:
        raise storage_error(error, path) from error
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys:
        raise UsageError(f"{path}: there is no key in it", hint=_KEY_ADVICE)
    if rights & _OTHERS:
        note(f"others on this machine can read the keys in {path}: chmod 600 {path}")
    return keys
