"""Each reward on answers written by hand; a user's own file; the names and weights of a command line."""

import pytest

from medcli.core.errors import DataError, UsageError
from medcli.core.letters import chosen_letters, options_of
from medcli.core.reading import asked_of
from medcli.core.record import Conversation, Message, Question
from medcli.core.reward_terms import judge_of_file, terms_of
from medcli.core.shelf import Shelf
from medcli.rewards import exact, format, length

REWARDS = Shelf("medcli.rewards", "reward")


def exam(answer, *choices):
    choices = choices or ("高血压", "3", "B超", "CT", "阿司匹林", "以上都是")
    return asked_of(Question(id="1", stem="哪一项正确？", choices=choices, answer=answer, subject="内科", source="few"))


def talk(question, answer):
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return asked_of(Conversation(id="1", messages=turns, source="few"))


RIGHT = [
    ("B", "B"), ("B", "b"), ("B", "Ｂ。"), ("B", "(B)"), ("B", "**B**"), ("B", "答案：B"),
    ("B", "答案是B，因为是三。"),
    ("B", "正确答案为 B. 3"), ("B", "B. 3"), ("B", "B、3"), ("B", "3"), ("B", "３。"), ("B", "应选B项。"),
    ("B", "故选B。"),
    ("B", "选项A错误，选项B正确。"), ("B", "选项B正确，选项A错误。"), ("B", "先想一想：选A？不对。\n所以选B。"),
    ("B", "不选A，选B。"), ("B", "选B，不能选A。"), ("B", "做CT和B超后可知，答案是B。"), ("B", "The answer is B."),
    ("F", "F"), ("E", "答案：E"), ("D", "CT"), ("C", "B超"), ("C", "选C，做B超。"),
    ("ACD", "ACD"), ("ACD", "DCA"), ("ACD", "A、C、D"), ("ACD", "A, C, D"), ("ACD", "A和C以及D"),
    ("ACD", "答案：C A D。"),
    ("ACD", "A. 高血压\nC. B超\nD. CT"),
]  # fmt: skip
WRONG = [
    ("C", "CT"), ("B", "B超检查"), ("B", "需要做B超。"), ("B", "答案：B超"), ("B", "维生素B12"),
    ("A", "A型血，ABO系统"),
    ("B", "答案是B12。"), ("B", "A"), ("B", "AB"), ("ACD", "AC"), ("ACD", "ABCD"), ("A", ""), ("A", "不选A"),
    ("A", "G"), ("A", "A、G"), ("B", "不知道"), ("B", "30"), ("C", "答案是CT"),
]  # fmt: skip


@pytest.mark.parametrize(("letters", "answer"), RIGHT)
def test_right_letters(letters, answer):
    assert exact.rewards([exam(letters)], [answer]) == [1.0]


@pytest.mark.parametrize(("letters", "answer"), WRONG)
def test_wrong_letters(letters, answer):
    assert exact.rewards([exam(letters)], [answer]) == [0.0]


def test_an_option_that_is_not_offered_is_no_answer():
    options = options_of(exam("A", "是", "否").messages[-1].content)
    assert options == {"A": "是", "B": "否"}
    assert chosen_letters("C", options) == ""
    assert chosen_letters("否", options) == "B"


def test_what_is_no_exam_is_compared_as_text():
    asked = [
        talk("头部外伤做什么检查？", "CT"),
        talk("头部外伤做什么检查？", "CT"),
        talk("你好", "您好。"),
        talk("你好", ""),
    ]
    assert exact.rewards(asked, ["ＣＴ。", "C", "您 好", ""]) == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("B", 1), ("多喝水，注意休息。", 1), ("", 0), (" \n", 0),
        ("建议多喝水，注意休息，清淡饮食，保持充足睡眠，避免劳累，如有发热请", 2 / 3),
        ("请多休息。" * 4, 2 / 3), ("请多休息。" * 3, 1), ("啊" * 10 + "。", 2 / 3),
        ("多喝水。\n用户：还有呢？", 2 / 3), ("多喝水。<|user|>", 2 / 3), ("[INST]多喝水。", 2 / 3),
        ("医生认为：多喝水，注意休息，清淡饮食，避免劳累。", 1),
        ("|药名|用法|\n|----|----|----|----|----|----|\n|阿莫西林|口服|", 1),
        ("用户：" + "多喝水" * 20, 0),
    ],
)  # fmt: skip
def test_form(answer, value):
    assert format.rewards([talk("咳嗽怎么办？", "休息")], [answer]) == [pytest.approx(value)]


@pytest.mark.parametrize(
    ("reference", "letters", "value"),
    [(100, 1, 1), (100, 100, 1), (100, 150, 1), (100, 300, 0.5), (100, 0, 0), (1, 30, 1), (1, 60, 0.5), (0, 900, 1)],
)
def test_length(reference, letters, value):
    assert length.rewards([talk("咳嗽怎么办？", "水" * reference)], ["水" * letters]) == [pytest.approx(value)]


@pytest.mark.parametrize("name", REWARDS.names())
def test_a_reward_keeps_the_contract(name):
    reward = REWARDS.get(name)
    assert reward.HELP
    assert reward.rewards([], []) == []
    values = reward.rewards([exam("B"), talk("你好", "您好")], ["B", ""])
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values)
    assert values[0] == 1
    assert values[1] == 0


def terms(text):
    return [(term.name, term.weight, term.label) for term in terms_of(text.split(","))]


def test_names_and_weights():
    assert terms("exact,format:0.2,runs/rm:1.5,my/own.py:-1") == [
        ("exact", 1, "exact"), ("format", 0.2, "format"), ("runs/rm", 1.5, "rm"), ("my/own.py", -1, "own"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name", "weight"),
    [
        ("http://h:8000", "http://h:8000", 1),
        ("http://h:8000:0.5", "http://h:8000", 0.5),
        ("http://h:0.5", "http://h", 0.5),
        ("https://h/judge:2", "https://h/judge", 2),
        ("http://[::1]:80/a:3", "http://[::1]:80/a", 3),
    ],
)
def test_the_port_of_an_address_is_no_weight(text, name, weight):
    assert terms(text)[0][:2] == (name, weight)


@pytest.mark.parametrize(
    ("text", "said"), [("exact:0", "weight of 0"), ("exact,exact:2", "twice"), ("exact:1.2.3", "no weight")]
)
def test_wrong_weights(text, said):
    with pytest.raises(UsageError, match=said):
        terms_of(text.split(","))
    with pytest.raises(UsageError, match="names nothing"):
        terms_of([])


def own_file(folder, body, start=""):
    path = folder / "own.py"
    path.write_text(f"{start}\ndef rewards(asked, answers):\n    {body}\n")
    return path


def test_a_file_of_the_users_judges(tmp_path):
    path = own_file(tmp_path, "return [len(a) / len(q.reference) for q, a in zip(asked, answers)]")
    assert judge_of_file(str(path))([talk("你好", "您好")] * 2, ["您", "您好您好"]) == [0.5, 2]
    assert [item.name for item in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0]", "1 rewards for 2 answers"),
        ("return [1.0, float('nan')]", "reward nan"),
        ("return ['good', 'bad']", "no list of numbers"),
        ("return None", "no list of numbers"),
        ("return [1 / len(a) for a in answers]", r"own.py:3: ZeroDivisionError"),
    ],
)
def test_wrong_rewards_of_a_file_name_the_file(tmp_path, body, said):
    judge = judge_of_file(str(own_file(tmp_path, body)))
    with pytest.raises(DataError, match=said):
        judge([talk("你好", "您好")] * 2, ["您好", ""])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_such", "own.py:1: ModuleNotFoundError"),
        ("x = 1\ndef rewards(:\n", "own.py:2: "),
        ("def reward(asked, answers): ...", "no function 'rewards'"),
    ],
)
def test_a_file_that_does_not_run_is_told_at_once(tmp_path, text, said):
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(UsageError, match=said):
        judge_of_file(str(tmp_path / "own.py"))
    with pytest.raises(UsageError, match="no such file"):
        judge_of_file(str(tmp_path / "other.py"))
