"""The root help page as plain text, printed without Typer: half the CPU time of the lightest Typer page."""

from medcli.cli.table import TABLE

SUMMARY = "Carry a Chinese medical language model through its life: data, training, evaluation, use."
_GROUPS = {
    "Start": ("quickstart", "init", "doctor", "clean"),
    "Data": ("data",),
    "Train": ("train", "runs"),
    "Judge and use": ("eval", "chat", "predict", "serve", "kb"),
    "Hand over": ("merge", "export"),
}


def root_page() -> str:
    """The text of `med --help`."""
    width = max(map(len, TABLE))
    lines = ["Usage: med COMMAND [ARGS]...", "", SUMMARY, ""]
    for title, names in _GROUPS.items():
        known = [name for name in names if name in TABLE]
        if known:
            lines += [title, *(f"  {name:<{width}}  {TABLE[name][1]}" for name in known)]
    lines += [
        "",
        "Every command takes --help, --quiet (results and errors only) and --debug (tracebacks).",
        "`med --version` prints the version, `med --install-completion` sets up your shell.",
    ]
    return "\n".join(lines) + "\n"
