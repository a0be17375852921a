"""Text from a model that vLLM runs: many answers at a time on one GPU or several."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from medcli.core import vllm as limits
from medcli.core.chat_template import plain
from medcli.core.errors import ModelError, UsageError
from medcli.core.model_ref import TINY, ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.speaker import Answer, Finish, Sampling
from medcli.engine.load import load_tokenizer, opened, refuse_reward_model
from medcli.engine.speaker import SHORTEN, replies_of

_ASKED = 256  # prompts that are handed over together: what a Ctrl-C loses, and enough to keep a GPU busy


class VllmSpeaker:
    """A `Speaker`, and `Answering`, over vLLM's engine in this process; `refusals` are of prompts that are too long.

    Prompts are rendered by the model's chat template here, as everywhere, and handed over as tokens. An answer comes
    whole.
    """

    def __init__(self, ref: ModelRef, report: Report, *, dtype: str = "auto", quant: str = "none") -> None:
        if ref.base == TINY:
            raise UsageError("med-tiny does not run on vLLM", hint="leave out --engine vllm")
        refuse_reward_model(ref)
        rank = limits.rank_of(str(ref.adapters[-1]), ref.adapters) if ref.adapters else 0
        self.refusals: dict[tuple[Message, ...], str] = {}
        self._tokenizer, self._template = load_tokenizer(ref, report)
        self._vllm = _vllm()
        base, trusted = opened(ref, report, weights=True)
        report.stage(f"loading {ref.base} into vLLM")
        given: dict[str, Any] = {"max_lora_rank": limits.room_for(rank), "enable_lora": True} if rank else {}
        if quant != "none":
            given["quantization"] = "bitsandbytes"
        try:
            self._llm = self._vllm.LLM(model=base, dtype=dtype, trust_remote_code=trusted, **given)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(f"vLLM does not load {ref.base}: {error}", hint="leave out --engine vllm") from error
        self._adapter = _adapter(ref) if rank else None
        self.context = int(self._llm.llm_engine.model_config.max_model_len)

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, Answer]:
        """The answer in one piece; raises ModelError when there is no room for one."""
        ((_, answer),) = self.answers([messages], [sampling])
        if answer.finish == "refused":
            raise ModelError(answer.problem, hint=SHORTEN)
        if answer.text:
            yield answer.text
        return answer

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, in order; "" where a prompt is too long."""
        return replies_of(self, prompts, sampling, advance, self.refusals)

    def answers(
        self, prompts: Sequence[Sequence[Message]], sampling: Sequence[Sampling]
    ) -> Generator[tuple[int, Answer], None, None]:
        """See `core.speaker.Answering`."""
        every = [self._ids(messages) for messages in prompts]
        for number, ids in enumerate(every):
            if len(ids) >= self.context:
                problem = f"the conversation has {len(ids)} tokens, the model reads at most {self.context}"
                yield number, Answer(text="", finish="refused", prompt_tokens=len(ids), tokens=0, problem=problem)
        fitting = [number for number, ids in enumerate(every) if len(ids) < self.context]
        for start in range(0, len(fitting), _ASKED):
            yield from self._said(fitting[start : start + _ASKED], every, sampling)

    def _said(
        self, numbers: Sequence[int], every: Sequence[Sequence[int]], sampling: Sequence[Sampling]
    ) -> Iterator[tuple[int, Answer]]:
        asked = [{"prompt_token_ids": list(every[number])} for number in numbers]
        hows = [self._how(sampling[number]) for number in numbers]
        found = self._llm.generate(asked, hows, lora_request=self._adapter, use_tqdm=False)
        for number, one in zip(numbers, found, strict=True):
            said = one.outputs[0]
            finish: Finish = "length" if said.finish_reason == "length" else "stop"
            text = said.text.rstrip("\ufffd").lstrip()
            tokens = len(said.token_ids)
            yield number, Answer(text=text, finish=finish, prompt_tokens=len(every[number]), tokens=tokens)

    def _how(self, sampling: Sampling) -> Any:
        return self._vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            repetition_penalty=sampling.repetition_penalty,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            stop=list(sampling.stop),
            stop_token_ids=[self._tokenizer.convert_tokens_to_ids(stop) for stop in self._template.stops],
        )

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        text = plain(self._template.render(messages, ask=True))
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise UsageError(
            "vllm is not installed", hint='pip install "medcli[vllm]", or leave out --engine vllm'
        ) from error
    return vllm


def _adapter(ref: ModelRef) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(ref.adapters[-1]))
