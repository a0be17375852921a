"""`python -m tests.check`: format, lint, types, floors, tests and documents, each in one line, all of them every time.

`--fix` formats and mends first what tools can mend; `--fast` leaves the tests out, as before a commit. The exit code is
1 when any has failed; `tests/test_house.py` runs the same tools.
"""

import argparse
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_RUFF = (sys.executable, "-m", "ruff")
_TESTS = (sys.executable, "-m", "pytest", "-q", "--no-header")
_DOCUMENTS = ("tests/test_readme.py", "tests/test_docs.py", "tests/test_ci_example.py", "tests/test_contributing.py")
TOOLS = {
    "format": (*_RUFF, "format", "--check", "--output-format", "concise", "."),
    "lint": (*_RUFF, "check", "--output-format", "concise", "."),
    "types": (sys.executable, "-m", "mypy"),
    "floors": (str(Path(sysconfig.get_path("scripts")) / "lint-imports"), "--no-logo"),
}
FIXES = ((*_RUFF, "check", "--fix", "--quiet", "."), (*_RUFF, "format", "--quiet", "."))
TESTS = {
    "tests": (*_TESTS, *(f"--ignore={path}" for path in (*_DOCUMENTS, "tests/test_house.py"))),
    "docs": (*_TESTS, *_DOCUMENTS),
}


def faults_found_by(words: tuple[str, ...]) -> str:
    """What a tool that is run in the repository's root says when it is not content; "" when it is."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return f"{done.stdout}\n{done.stderr}".strip() or f"exit code {done.returncode}" if done.returncode else ""


def run(checks: Mapping[str, tuple[str, ...]]) -> int:
    """Run all checks, and return the exit code."""
    passed = [_passes(name, words) for name, words in checks.items()]
    return 0 if all(passed) else 1


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.check", description=__doc__.partition("\n")[0])
    parser.add_argument("--fix", action="store_true", help="Format and mend first what tools can mend.")
    parser.add_argument("--fast", action="store_true", help="Leave the tests out.")
    asked = parser.parse_args()
    for words in FIXES if asked.fix else ():
        faults_found_by(words)  # what is left is found below
    return run(TOOLS if asked.fast else {**TOOLS, **TESTS})


def _passes(name: str, words: tuple[str, ...]) -> bool:
    started = time.monotonic()
    faults = faults_found_by(words)
    print(f"{'✗' if faults else '✓'} {name:<8}{time.monotonic() - started:6.1f} s", flush=True)
    if faults:
        print(faults, flush=True)
    return not faults


if __name__ == "__main__":
    sys.exit(main())
