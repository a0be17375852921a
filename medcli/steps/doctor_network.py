"""Which hubs of models and data sets can be reached? All are asked at once, and none is waited for long."""

import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medcli.core.finding import Finding
from medcli.core.settings import variable_of_others

HUGGING_FACE, MIRROR, MODELSCOPE = "https://huggingface.co", "https://hf-mirror.com", "https://modelscope.cn"
_PATIENCE = 3.0  # seconds, for all together
_PROXY_WANTS_A_PASSWORD = 407
_SERVER_FAULT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """An address to be tried: the `main` one is what med asks now, one that `mirrors` may take its place."""

    url: str
    main: bool = False
    mirrors: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a hub answered: after so many seconds, or why it did not; `fault` is "" where it did."""

    hub: Hub
    seconds: float
    fault: str


def hubs() -> tuple[Hub, ...]:
    """What med asks, by HF_ENDPOINT or without it, and what else there is."""
    endpoint = (variable_of_others("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")
    known = (Hub(url=endpoint, main=True), Hub(url=MIRROR, mirrors=True), Hub(url=MODELSCOPE))
    return tuple({hub.url: hub for hub in reversed(known)}.values())[::-1]


class Asked:
    """Hubs that are being asked, each by a thread of its own, from when this is made."""

    def __init__(self, hubs: Sequence[Hub]) -> None:
        self._hubs, self._answers = hubs, queue.Queue[Answer]()
        self._until = time.monotonic() + _PATIENCE
        for hub in hubs:
            threading.Thread(target=self._ask, args=(hub,), daemon=True).start()

    def _ask(self, hub: Hub) -> None:
        began = time.monotonic()
        fault = _fault(hub.url)
        self._answers.put(Answer(hub=hub, seconds=time.monotonic() - began, fault=fault))

    def answers(self) -> list[Answer]:
        """One answer for each hub, in their order; who has not answered by now is not to be reached."""
        found: dict[str, Answer] = {}
        while len(found) < len(self._hubs):
            try:
                answer = self._answers.get(timeout=max(0.0, self._until - time.monotonic()))
            except queue.Empty:
                break
            found[answer.hub.url] = answer
        late = f"no answer within {_PATIENCE:.0f} s"
        return [found.get(hub.url) or Answer(hub=hub, seconds=_PATIENCE, fault=late) for hub in self._hubs]


def network_findings(asked: Asked) -> Iterator[Finding]:
    """What each hub answered, and what to do about one that did not."""
    answers = asked.answers()
    if answers and all(answer.fault for answer in answers):
        yield Finding(
            check="network",
            state="warning",
            message=f"no hub can be reached: {answers[0].fault}; med works offline, with models and data in folders",
            hint="behind a proxy: export HTTPS_PROXY=http://HOST:PORT\nwithout a network: med doctor --offline",
        )
        return
    mirror = next((answer.hub.url for answer in answers if answer.hub.mirrors and not answer.fault), "")
    for answer in answers:
        yield _finding(answer, mirror)


def _finding(answer: Answer, mirror: str) -> Finding:
    hub = answer.hub
    if not answer.fault:
        return Finding(check="network", state="ok", message=f"{hub.url} answers in {answer.seconds:.1f} s")
    if not hub.main:
        return Finding(check="network", state="ok", message=f"{hub.url} cannot be reached, and is not needed")
    if mirror:
        return Finding(
            check="network",
            state="warning",
            message=f"{hub.url} cannot be reached: {answer.fault}; its mirror can",
            hint=f"export HF_ENDPOINT={mirror}",
        )
    return Finding(
        check="network",
        state="warning",
        message=f"{hub.url} cannot be reached: {answer.fault}",
        hint="behind a proxy: export HTTPS_PROXY=http://HOST:PORT\n"
        "data sets may be on ModelScope too: med data build NAME --hub modelscope",
    )


def _fault(url: str) -> str:
    """Why an address gives no answer that a hub would give; "" when it does. Proxies of the environment are used."""
    if not url.startswith(("http://", "https://")):
        return "it is no web address"
    try:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "med doctor"})
        with urllib.request.build_opener().open(request, timeout=_PATIENCE):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        passed = error.code < _SERVER_FAULT and error.code != _PROXY_WANTS_A_PASSWORD
        return "" if passed else f"the answer is {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)
