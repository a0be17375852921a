"""Rounds: all dialogues go forward together, and each ends when it is over."""

from dataclasses import replace

from medcli.core.dialogue_rounds import Dialogue, held
from medcli.core.record import Message
from tests.consulting import COLD, GOOD, Notes, Speaks, always, doctor, sitting, user


def opened(*ids):
    return [Dialogue(case=replace(COLD, id=id), messages=(user(COLD.opening),)) for id in ids or ("a",)]


def test_three_rounds_are_six_messages():
    talk = held(opened(), sitting(doctor(*GOOD)))[0]
    assert [message.role for message in talk.messages] == ["user", "assistant"] * 3
    assert talk.doctor == list(GOOD)
    assert talk.patient[1] == "从上周三开始的。量过，37.2℃。有一点白痰。"
    assert talk.patient[2] == "对青霉素过敏。喝过止咳糖浆。您看我这是怎么回事，该怎么办？"
    assert talk.ended == "rounds"


def test_one_round_is_a_question_and_an_answer():
    talk = held(opened(), sitting(always("多休息。"), rounds=1))[0]
    assert len(talk.messages) == 2


def test_all_that_go_on_are_asked_together():
    silent_in_the_second = Speaks(
        lambda prompt, _: "" if len(prompt) > 1 and prompt[0].content.startswith("二") else f"请问{len(prompt)}？"
    )
    talks = [Dialogue(case=replace(COLD, id=str(n)), messages=(user(f"{n}号咳嗽。"),)) for n in ("一", "二", "三")]
    report = Notes()
    found = held(talks, sitting(silent_in_the_second, report=report))
    assert [len(prompts) for prompts, _ in silent_in_the_second.batches] == [3, 3, 2]
    assert [talk.ended for talk in found] == ["rounds", "no answer", "rounds"]
    assert [talk.case.id for talk in found] == ["一", "二", "三"]
    assert report.stages == [("answering, round 1", 3), ("answering, round 2", 3), ("answering, round 3", 2)]


def test_the_same_answer_twice_ends_it():
    talk = held(opened(), sitting(always("多喝水，注意休息。"), rounds=9))[0]
    assert (talk.ended, len(talk.doctor)) == ("same answer", 2)


def test_leave_is_taken_without_an_answer():
    talk = held(opened(), sitting(doctor("多休息。", "多喝水。", "少熬夜。", "别着急。", "再来。"), rounds=9))[0]
    assert talk.ended == "goodbye"
    assert talk.messages[-1] == user("好的，我明白了，谢谢医生。")


def test_a_doctor_who_says_nothing_is_not_asked_again():
    speaker = always("  ")
    talk = held(opened(), sitting(speaker))[0]
    assert (talk.ended, talk.doctor, len(speaker.batches)) == ("no answer", [""], 1)


def test_thoughts_are_kept_from_the_patient():
    talk = held(opened(), sitting(always("<think>发烧吗？</think>多休息。"), rounds=1))[0]
    assert talk.doctor == ["多休息。"]


def test_a_model_can_be_the_patient():
    patient = Speaks(lambda prompt, _: f"患者：第{sum(m.role == 'user' for m in prompt)}次问我了。")
    system = Message(role="system", content="你是医生。")
    talks = [replace(talk, messages=(system, *talk.messages)) for talk in opened("a", "b")]
    report = Notes()
    found = held(talks, sitting(doctor(*GOOD), patient=patient, report=report))
    assert [talk.patient[1:] for talk in found] == [["第2次问我了。", "第3次问我了。"]] * 2
    assert [len(prompts) for prompts, _ in patient.batches] == [2, 2]
    assert "patients, round 2" in [name for name, _ in report.stages]
    assert found[0].messages[0] == system


def test_a_patient_who_says_nothing_ends_it():
    talk = held(opened(), sitting(doctor(*GOOD), patient=always("")))[0]
    assert (talk.ended, len(talk.doctor)) == ("silent patient", 1)


def test_every_round_draws_anew_and_again_the_same():
    def draw(prompt, sampling):
        return f"建议{sampling.seed}"

    seeds = [talk.doctor for talk in held(opened(), sitting(Speaks(draw), temperature=0.7, max_tokens=9))]
    assert seeds == [["建议43", "建议44", "建议45"]]
