"""Send a finished folder to a hub, private unless told otherwise; the token is the hub client's own affair."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medcli.core.errors import ServiceError, UsageError
from medcli.core.report import Report
from medcli.core.settings import variable_of_others

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_EMPTY = {".gitattributes"}  # what a hub puts into every new repository
_SAID = {
    401: ("does not know who asks", "log in with `hf auth login`, or set HF_TOKEN to a token that may write"),
    403: ("does not let this token write there", "take a token with the right to write, or a name of your own"),
    404: ("knows no such owner, or this token may not write there", "check OWNER, and that the token may write"),
}


def check_name(name: str) -> None:
    """Raise UsageError for what is no OWNER/NAME."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"--push: '{name}' is not OWNER/NAME", hint="for instance --push my-clinic/triage-7b")


def check_login(name: str) -> None:
    """Raise ServiceError, before any work is done, when the hub cannot be reached or does not know who asks."""
    with _problems_said(name):
        _hub().whoami()


def push(folder: Path, name: str, *, public: bool, report: Report) -> str:
    """Upload `folder` as the new model `name` in one commit; returns its page.

    Raises ServiceError when the hub refuses or cannot be reached, UsageError when `name` holds files already, or is
    public and was not to be. The folder is left as it is.
    """
    hub = _hub()
    report.stage(f"uploading to {name}")
    with _problems_said(name, folder):
        page = str(hub.create_repo(name, private=not public, exist_ok=True))
        about = hub.model_info(name)
        held = {file.rfilename for file in about.siblings or ()} - _EMPTY
        if held:
            raise UsageError(
                f"{name} holds {len(held):,} files already, and nothing of it is overwritten",
                hint=f"choose another name, or replace them yourself: hf upload {name} {folder}",
            )
        if not public and not about.private:
            raise UsageError(f"{name} is public", hint="add --public when everybody is to see the model")
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload the model")
    return page


def _hub() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=variable_of_others("HF_ENDPOINT") or None)


@contextmanager
def _problems_said(name: str, folder: Path | None = None) -> Iterator[None]:
    """One message for what a hub can answer, without anything of the request, which holds the token."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    # the HTTP library below, whose name has changed
    transport: type[Exception] = HfHubHTTPError.__bases__[0]
    kept = f"\nthe folder is whole; push it later: hf upload {name} {folder}" if folder else ""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ServiceError("no token of the hub is here", hint=_SAID[401][1] + kept) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        what, hint = _SAID.get(status, (f"answered with status {status}", "try again later"))
        raise ServiceError(f"the hub {what} ({name})", hint=hint + kept) from error
    except (OSError, transport) as error:
        hint = "check the network, or set HF_ENDPOINT to a hub that can be reached"
        raise ServiceError(f"the hub cannot be reached: {type(error).__name__}", hint=hint + kept) from error
    except ValueError as error:  # the hub's word on the card's front matter
        first = " ".join(str(error).split())[:200]
        raise ServiceError(f"the hub refuses the folder: {first}", hint="mend README.md there" + kept) from error
