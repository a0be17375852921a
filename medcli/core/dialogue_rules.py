"""A judge of consultations by rules: crude, repeatable, and without a model or a key.

It counts: facts asked out of the patient, terms of the case's reference named and not denied, kinds of advice, broken
sentences. It does not understand: other words for the right thing score low, and the right words in nonsense score
high. It tells a doctor who asks, knows and advises from one who does not; for figures to be published take a model.
"""

import re
from statistics import fmean

from medcli.core.dialogue_patient import MOST
from medcli.core.dialogue_rounds import Dialogue
from medcli.core.dialogue_speech import questions, says, sentences, statements
from medcli.core.dialogue_verdict import HIGHEST, LOWEST, Verdict
from medcli.core.grounding import overlap, share_said

_MUCH_TOLD = 0.8  # of what could be asked for: who gets so much has asked well
# Of the character pairs of a reference; gpt-3.5-turbo's published answers to CMB-Clin's patients share 0.11 of the
# solutions' pairs on average, 0.22 at most.
_MUCH_SHARED = 0.25
_NOW = re.compile(r"立即|立刻|马上|赶紧|赶快|尽快|尽早|今天|急诊|急救|120")
_TO_HOSPITAL = re.compile(r"医院|就医|就诊|急诊|急救|120|门诊|看医生")
_WHEN = re.compile(
    r"(?:如果|如|若|一旦|万一|要是|出现|加重|不缓解)[^。；！\n]{2,60}?(?:就医|就诊|医院|急诊|120|复诊|告诉医生)"
)
_DO = re.compile(r"建议|应该|应当|需要|可以|请您?|务必|避免|不要|尽量|最好|先")
_EXAMINE = re.compile(r"检查|化验|抽血|血常规|尿常规|心电图|CT|B超|彩超|超声|X线|胸片|磁共振|胃镜|测听|眼压|筛查|评估")
# Rest, water and light food are advised to everybody, and help nobody in particular.
_CARE = re.compile(r"药|剂|补液|冲洗|平卧|冷敷|热敷|锻炼|治疗|手术|疫苗|注射|输液|戒烟|戒酒|禁食|饮水|控制饮食")
_EXPLAINS = re.compile(r"考虑|属于|提示|符合|怀疑|诊断|很可能是|像是")
_NO_DOCTOR = re.compile(
    r"(?:不是|并非)医生|作为(?:一个|一名)?[^，。]{0,8}(?:AI|人工智能|语言模型|智能助手)|无法(?:提供|给出)"
)
_WHOLE = re.compile(r"[。！？!?；;：:…）)】”\"~～]$|[.]$")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
_SHORT, _LONG = 10, 800  # characters of an answer: below nothing can be said, above no patient reads on
_CHINESE = 0.7  # of the letters
_NEW = 0.6  # of the four-character pieces are different ones; in those answers 0.61 to 1, in loops next to none


def judged(talk: Dialogue) -> Verdict:
    """Marks from 1 to 5 on the four axes, to one decimal, each with the counts it comes from."""
    parts = {
        "proactivity": _proactivity(talk),
        "accuracy": _accuracy(talk),
        "helpfulness": _helpfulness(talk),
        "language": _language(talk),
    }
    marks = {axis: round(LOWEST + (HIGHEST - LOWEST) * share, 1) for axis, (share, _) in parts.items()}
    return Verdict(marks=marks, reasons={axis: reason for axis, (_, reason) in parts.items()})


def elicited(talk: Dialogue) -> list[str]:
    """The facts of the case that the patient told after the opening, as they stand there or nearly so."""
    said = "\n".join(talk.patient[1:])
    return [fact.says for fact in talk.case.facts if share_said([fact.says], said)]


def _proactivity(talk: Dialogue) -> tuple[float, str]:
    """Half for facts elicited, of those a patient would have told; half for asking in every turn but the last."""
    facts, told = len(talk.case.facts), len(elicited(talk))
    before = talk.doctor[:-1] or talk.doctor  # the last turn is for advice, unless it is the only one
    asking = sum(bool(questions(text)) for text in before)
    asks = asking / len(before)
    could = min(facts, MOST * len(before)) if len(talk.doctor) > 1 else 0
    share = asks if could == 0 else 0.5 * asks + 0.5 * min(1.0, told / (_MUCH_TOLD * could))
    return share, f"{told} of {facts} facts elicited, asks in {asking} of {len(before)} turns"


def _accuracy(talk: Dialogue) -> tuple[float, str]:
    """Half for the diagnosis, half for the advice; an urgent case not sent on, or harm done, leaves a third of it."""
    case = talk.case
    said = "\n".join(sentence for text in talk.doctor for sentence in statements(text))
    named = [term for term in case.diagnosis if says(said, term)]
    advised = [term for term in case.advice if says(said, term)]
    shared = overlap(said, case.reference)
    advice = len(advised) / len(case.advice) if case.advice else min(1.0, shared / _MUCH_SHARED)
    share = fmean([len(named) / len(case.diagnosis), advice]) if case.diagnosis else advice
    points = f"{len(advised)} of {len(case.advice)} points of advice" if case.advice else f"{shared:.2f} of the text"
    reason = f"{len(named)} of {len(case.diagnosis)} diagnoses, {points}"
    if case.urgent and not _sends_now(said):
        share, reason = share / 3, reason + "; does not send an urgent case to hospital"
    if harmful := [term for term in case.harmful if says(said, term)]:
        share, reason = share / 3, reason + f"; harmful: {'、'.join(harmful)}"
    return share, reason


def _helpfulness(talk: Dialogue) -> tuple[float, str]:
    """A fifth for each kind of help in all that is stated; a fifth is lost where the doctor declines to be one."""
    said = "\n".join(sentence for text in talk.doctor for sentence in statements(text))
    kinds = {
        "what to do": bool(_DO.search(said)),
        "which examination": bool(_EXAMINE.search(said)),
        "treatment or self-care": bool(_CARE.search(said)),
        "when to see a doctor": bool(_WHEN.search(said)) or _sends_now(said),
        "an answer to what it is": bool(_EXPLAINS.search(said)),
    }
    there = [kind for kind, is_there in kinds.items() if is_there]
    declines = bool(_NO_DOCTOR.search(said))
    share = max(0.0, (len(there) - declines) / len(kinds))
    return share, ", ".join(there or ["no advice"]) + ("; declines to advise" if declines else "")


def _language(talk: Dialogue) -> tuple[float, str]:
    """The share of signs of sound language, over all turns of the doctor."""
    signs = {
        "length": [_SHORT <= len(text) <= _LONG for text in talk.doctor],
        "whole sentences": [bool(_WHOLE.search(text)) for text in talk.doctor],
        "no repetition": [_is_new(text) for text in talk.doctor] + [_is_new("".join(talk.doctor))],
        "Chinese": [_is_chinese(text) for text in talk.doctor],
    }
    share = fmean(fmean(values) for values in signs.values())
    failed = [name for name, values in signs.items() if not all(values)]
    return share, f"not always: {', '.join(failed)}" if failed else "all signs of sound language"


def _sends_now(said: str) -> bool:
    return any(_NOW.search(part) and _TO_HOSPITAL.search(part) for part in sentences(said))


def _is_new(text: str) -> bool:
    pieces = [text[index : index + 4] for index in range(len(text) - 3)]
    return not pieces or len(set(pieces)) / len(pieces) >= _NEW


def _is_chinese(text: str) -> bool:
    letters = _LETTER.findall(text)
    return bool(letters) and len(_HAN.findall(text)) >= _CHINESE * len(letters)
