"""A server of its own for tests that send signals: prints its address, answers slowly, exits as `med serve` does."""

import sys

from medcli.cli import serve
from medcli.core.interruption import INTERRUPTED
from medcli.steps.serve import Settings
from tests.web.fake_scheduler import FakeScheduler

if __name__ == "__main__":
    settings = Settings(page=False, port=0, patience=float(sys.argv[1]))
    try:
        serve.run({}, settings, (), lambda refs, settings: FakeScheduler(pace=0.02))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
