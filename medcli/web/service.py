"""What the routes of one server share."""

import threading
import time
from dataclasses import dataclass, field

from medcli.core.serving import Scheduler
from medcli.steps.grounded import Library
from medcli.steps.serve import Settings
from medcli.web.conversation_log import ConversationLog
from medcli.web.hearing import Hearing
from medcli.web.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A scheduler with all that stands around it.

    Answers rest on the knowledge base `kb`, where there is one. `closing` is set when no new request is taken.
    """

    scheduler: Scheduler
    settings: Settings
    metrics: Metrics
    log: ConversationLog | None = None
    kb: Library | None = None
    closing: threading.Event = field(default_factory=threading.Event)
    created: int = field(default_factory=lambda: int(time.time()))

    def hearing(self) -> Hearing:
        """A new one, for one HTTP request."""
        return Hearing(self.scheduler, self.settings.time_limit)

    def ended(self, hearing: Hearing) -> None:
        """Nobody listens to `hearing` any more: stop the model, measure, and log where that was asked for."""
        hearing.cancel()
        self.metrics.heard(hearing)
        if self.log is not None:
            self.log.keep(hearing)
