"""Where huggingface_hub keeps what it has downloaded; found without importing it, for it may be broken."""

from pathlib import Path

from medcli.core.settings import variable_of_others


def hub_folder() -> Path:
    """The folder of downloaded models and data sets, by HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or the default."""
    if named := variable_of_others("HF_HUB_CACHE"):
        return Path(named).expanduser()
    caches = Path(variable_of_others("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = variable_of_others("HF_HOME") or caches / "huggingface"
    return Path(home).expanduser() / "hub"
