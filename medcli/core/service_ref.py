"""How a model behind an OpenAI-compatible service is named, wherever a model may be: `URL#NAME`."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from medcli.core.errors import UsageError

_SUCH_AS = "such as http://localhost:8000/v1#qwen2.5-7b"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRef:
    """A service's address, and the name of the model there."""

    url: str
    model: str

    def __str__(self) -> str:
        return f"{self.url}#{self.model}"


def service_of(ref: str) -> ServiceRef | None:
    """The service that `ref` names, None when it is no http(s) address.

    Raises UsageError when the model's name is missing, and for an address with a password or a query, which would be
    written down with the results: the key comes from the environment.
    """
    if not ref.lower().startswith(("http://", "https://")):
        return None
    address, _, model = ref.partition("#")
    parts = _split(address)
    if "@" in parts.netloc:
        raise UsageError(
            f"the address of {parts.netloc.rpartition('@')[2]} has a name or a password in it",
            hint="leave it out, and export MED_API_KEY=… (or OPENAI_API_KEY)",
        )
    if parts.query:
        raise UsageError(
            f"the address of {parts.netloc} has a '?' in it",
            hint="name it without: URL#NAME; a key goes into MED_API_KEY or OPENAI_API_KEY",
        )
    url = address.rstrip("/")
    if not model.strip():
        raise UsageError(f"{url} does not say which model", hint=f"name it after a #: {url}#NAME")
    return ServiceRef(url=url, model=model.strip())


def _split(address: str) -> SplitResult:
    """The parts of an address; raises UsageError when it has no host, or a port that is none."""
    try:
        parts = urlsplit(address)
        if parts.hostname and parts.port != 0:
            return parts
        raise ValueError("no host")
    except ValueError as error:
        shown = address.rpartition("@")[2]
        raise UsageError(f"{shown} is no address of a service: {error}", hint=_SUCH_AS) from error
