"""What becomes of patient identifiers: masked, refused, counted, or left."""

from collections import Counter

import pytest

from medcli.core.build_settings import BuildSettings
from medcli.core.record import Conversation, Message
from medcli.gates import phi
from tests.gates.records import dialogue, opened, preference

ASKED = "王医生您好，我叫陈思远，电话13800138000。"
ANSWERED = "陈思远您好，王医生周三出诊，稍后打13800138000联系您。"


def test_masks_by_default_with_the_same_placeholder_in_the_whole_dialogue():
    changed = Counter()
    record = phi.gate(BuildSettings(), changed)(dialogue(ASKED, ANSWERED, "李医生呢？", "李医生也在。"))
    assert [m.content for m in record.messages] == [
        "[姓名1]医生您好，我叫[姓名2]，电话[电话1]。",
        "陈思远您好，[姓名1]医生周三出诊，稍后打[电话1]联系您。",
        "[姓名3]医生呢？",
        "[姓名3]医生也在。",
    ]
    assert changed == {"masked: name": 5, "masked: mobile number": 2}


def test_the_next_dialogue_begins_anew():
    check = opened(phi)
    assert check(dialogue("王医生好", "好")).messages[0].content == "[姓名1]医生好"
    assert check(dialogue("李医生好", "好")).messages[0].content == "[姓名1]医生好"


def test_a_preference_s_answers_belong_to_one_dialogue():
    record = opened(phi)(preference("谢谢王医生", "找李医生", "找王医生"))
    assert (record.chosen, record.rejected) == ("找[姓名2]医生", "找[姓名1]医生")


def test_the_record_s_own_id_and_source_stay():
    messages = (Message(role="user", content="疼"), Message(role="assistant", content="休息"))
    record = Conversation(id="13800138000", messages=messages, source="13800138000", meta={"doctor": "王医生"})
    masked = opened(phi)(record)
    assert (masked.id, masked.source, masked.meta) == ("13800138000", "13800138000", {"doctor": "[姓名1]医生"})


def test_drop_refuses_with_the_first_kind():
    check = opened(phi, phi="drop")
    assert check(dialogue(ASKED, ANSWERED)) == "patient identifier: name"
    assert check(dialogue("电话13800138000", "好")) == "patient identifier: mobile number"
    record = dialogue("头疼", "休息")
    assert check(record) is record


def test_report_counts_and_changes_nothing():
    changed = Counter()
    record = dialogue(ASKED, ANSWERED)
    assert opened(phi, changed, phi="report")(record) is record
    assert changed == {"found, not masked: name": 3, "found, not masked: mobile number": 2}


@pytest.mark.parametrize("mode", ["mask", "drop", "report", "off"])
def test_a_record_without_identifiers_is_neither_changed_nor_counted(mode):
    changed = Counter()
    record = dialogue("患者高血压，白细胞12.5×10^9/L，2023年10月发病", "请向医生咨询，每次0.5g")
    assert opened(phi, changed, phi=mode)(record) == record
    assert not changed


def test_off_does_not_look():
    changed = Counter()
    record = dialogue(ASKED, ANSWERED)
    assert opened(phi, changed, phi="off")(record) is record
    assert not changed
