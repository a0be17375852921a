"""What `med doctor` says of one thing that it looked at."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A thing that was looked at and how it is; `hint` says how to mend it, "" where nothing is to be mended."""

    check: str
    state: State
    message: str
    hint: str = ""
