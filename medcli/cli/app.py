"""`med`: where errors become messages and exit codes. The program itself does not handle them."""

import io
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence

from medcli.core.errors import MedError
from medcli.core.interruption import INTERRUPTED, Terminated, exit_code_of

# What must stand in the environment before Python starts. Spinning OpenMP threads make two threads slower than one on a
# shared machine, and giving memory back to the system after every step costs more than the step's small products.
TUNED = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
_COMPUTING = ("train", "quickstart", "eval", "chat", "predict", "serve", "export")
CLOSED_PIPE = 141
_GRACE = 1.0  # seconds in which a SIGTERM that comes twice, to the process and to its group, counts as one
_DEFECT = "this is a defect in med: run again with --debug and report what it prints"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `med` and exit with its code; `--debug` and `--quiet` are taken anywhere on the line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, quiet = "--debug" in given, "--quiet" in given
    if arguments is None:
        if given[:1] and given[0] in _COMPUTING:
            _tune()
        _stop_on_terminate()
        _write_every_language()
        if not debug:
            warnings.simplefilter("ignore")  # libraries warn developers; what concerns users is raised as an error
    given = [word for word in given if word not in ("--debug", "--quiet")]
    try:
        if quiet:
            from medcli.cli import console

            console.be_quiet()
        if given[:1] == ["train"]:
            from medcli.cli import processes

            processes.take_place(sys.argv[1:] if arguments is None else arguments)
        code = _run(given)
    except (KeyboardInterrupt, Exception) as error:
        if debug and not isinstance(error, KeyboardInterrupt):
            raise
        code = _explain(error)
    if arguments is None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to unwind; python would print a traceback
        if given[:1] == ["train"]:
            processes.end(code)
    sys.exit(code)


def _run(given: list[str]) -> int:
    if not given and "_MED_COMPLETE" not in os.environ:
        from medcli.cli.status import show

        show()
        return 0
    if given == ["--help"]:
        from medcli.cli.help import root_page

        sys.stdout.write(root_page())
        return 0
    import typer

    from medcli.cli.lazy import app

    if "_MED_COMPLETE" in os.environ:
        app(prog_name="med")
    group = typer.main.get_command(app)
    try:
        # Not `app(...)`: it would turn Ctrl-C and a closed pipe into exit codes without a word.
        with group.make_context("med", given) as context:
            group.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0


def _tune() -> None:
    """Start this process over with `TUNED` in its environment; what a user has set there stays."""
    missing = {name: value for name, value in TUNED.items() if name not in os.environ}
    if missing:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})


def _write_every_language() -> None:
    """Pipes and files hold UTF-8, unless PYTHONIOENCODING says otherwise; what a terminal cannot show is spelt out."""
    chosen = "PYTHONIOENCODING" in os.environ
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):  # there is none, as in a service of Windows
            continue
        if not chosen and not stream.isatty():
            stream.reconfigure(encoding="utf-8")
        stream.reconfigure(errors="surrogateescape" if stream is sys.stdin else "backslashreplace")


def _stop_on_terminate() -> None:
    """From now on SIGTERM unwinds as Ctrl-C does, so that half-written files are cleared away."""
    own, came = os.getpid(), float("-inf")

    def stop(number: int, frame: object) -> None:
        nonlocal came
        if os.getpid() != own:  # a worker of some library, which inherits this
            os._exit(128 + number)
        before, came = came, time.monotonic()
        if came - before > _GRACE:
            raise Terminated

    signal.signal(signal.SIGTERM, stop)


def _explain(error: BaseException) -> int:
    """Print what went wrong to stderr and return the exit code; nothing else in `med` prints errors."""
    from medcli.cli import console, processes

    if isinstance(error, BrokenPipeError):  # `med … | head`: the reader has gone, nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    code, message, hint = _meaning(error)
    if processes.may_speak(code, error):
        console.show_error(message, hint) if message else sys.stderr.write(f"\n{console.words('interrupted')}\n")
    return code


def _meaning(error: BaseException) -> tuple[int, str, str]:
    """Exit code, message and hint; no message when a person has stopped the command."""
    import typer

    from medcli.core.atomic import storage_error

    if isinstance(error, OSError):
        error = storage_error(error)
    match error:
        case MedError():
            return error.exit_code, error.message, error.hint
        case KeyboardInterrupt():
            return exit_code_of(error), "", ""
        case typer.Abort():
            return INTERRUPTED, "", ""
        case typer.TyperException():
            return error.exit_code, error.format_message(), "add --help to the command to see what it takes"
        case MemoryError():
            return 5, "not enough memory", "try a smaller --batch or --max-length, or a smaller model"
    return 1, f"{type(error).__name__}: {error}", _DEFECT
