"""What the quality gate refuses, and the good answers that come near."""

import pytest

from medcli.core.record import Question
from medcli.gates import quality
from tests.gates.records import dialogue, document, opened, preference

ADVICE = "建议清淡饮食，规律作息，监测血压，必要时到医院心内科就诊，由医生调整用药方案。"


def reason(record, **settings):
    outcome = opened(quality, **settings)(record)
    return outcome if isinstance(outcome, str) else ""


def answered(text):
    return dialogue("血压高怎么办？", text)


@pytest.mark.parametrize(
    ("record", "settings", "said"),
    [
        (answered("休息。"), {"min_chars": 4}, "too short: 3 characters"),
        (answered("休息。"), {"min_chars": 3}, ""),
        (dialogue("疼", "嗯", "三天了", "建议拍片检查"), {"min_chars": 5}, ""),
        (document("短"), {"min_chars": 2}, "too short: 1 characters"),
        (answered(ADVICE), {"max_chars": 40}, "too long: 46 characters"),
        (
            preference(chosen="好" * 5, rejected="好" * 500),
            {"max_chars": 40},
            "repeats itself: one character over and over",
        ),
        (preference(chosen="多休息", rejected="好" * 500), {"max_chars": 40}, ""),
        (answered("多喝水，注意休息。" * 30), {}, "repeats itself: 97% of the 10-grams were there before"),
        (answered("多喝水，注意休息。" * 30), {"repetition": 1}, ""),
        (answered("多喝水，注意休息。" * 5), {}, ""),  # in so few characters nothing is told by it
        (answered(ADVICE + ADVICE), {}, ""),
        (answered("啊" * 12), {}, "repeats itself: one character over and over"),
        (answered("哈哈，哈哈！"), {}, "repeats itself: one character over and over"),
        (answered("好好休息，慢慢来，哈哈哈哈"), {}, ""),
        (dialogue("谢谢谢谢", "哈哈哈", "还要吃药吗", "不用了"), {}, ""),
        (answered("血小板1000000000000个，见____________"), {}, ""),
    ],
)
def test_length_and_repetition(record, settings, said):
    assert reason(record, **settings) == said


@pytest.mark.parametrize(
    "text",
    [
        "锟斤拷锟斤拷头疼",
        "烫烫烫烫烫烫屯屯屯屯",
        "ÄãºÃ£¬Çë¶àÐÝÏ¢",
        "ä½ å¥½ï¼Œè¯·å¤šä¼‘æ¯",
        "浣犲ソ锛岃澶氫紤鎭銆",
        "疼\ufffd\ufffd\ufffd\ufffd了",
        "cafÃ© rÃ©sumÃ©",
    ],
)
def test_broken_encoding(text):
    assert reason(answered(text)).startswith("broken encoding: ")
    assert reason(dialogue(text, "多休息")).startswith("broken encoding: ")


@pytest.mark.parametrize(
    "text",
    ["Ménière病和Sjögren综合征", "±2℃，«注»：10µg，·····", "脸烫烫的，没有发烧", "naïve T细胞 α β γ", "größer, façade"],
)
def test_letters_of_other_languages_are_not_broken(text):
    assert reason(answered(text)) == ""


ADVERTISING = {
    "想根治请加我微信 zhongyi888 详谈。": "a private contact",
    "具体方案可以加我QQ：123456789。": "a private contact",
    "宝妈可以加我扣1817257不等": "a private contact",
    "有需要请添加我的微信。": "a private contact",
    "治疗方法很特别，相信我的可以加我扣181725750了解": "a private contact",
    "不要拖延。快加我微信。": "a private contact",
    "我的微信号：drwang2020，欢迎咨询。": "a private contact",
    "如有疑问请拨打客服咨询电话400-123-4567。": "a hotline",
    "免费咨询热线：010-62345678": "a hotline",
    "预约挂号电话 13800138000，名额有限。": "a hotline",
    "更多疑问请咨询：4001-234-567": "a hotline",
    "想了解更多，您可以点击在线咨询！": "a link to click",
    "点击下方链接立即领取优惠": "a link to click",
    "祖传秘方，包治糖尿病，电话13800138000": "a promise of healing with a contact",
    "签约治疗，无效退款，详见 www.example.com": "a promise of healing with a contact",
}


@pytest.mark.parametrize("text", ADVERTISING)
def test_advertising(text):
    assert reason(answered(ADVICE + text)) == f"advertising: {ADVERTISING[text]}"
    assert reason(document(ADVICE + text)) == f"advertising: {ADVERTISING[text]}"
    assert reason(preference(chosen=text)) == f"advertising: {ADVERTISING[text]}"
    assert reason(preference(rejected=text)) == ""
    assert reason(dialogue(text, ADVICE)) == ""  # patients may say so
    assert reason(answered(text), advertising=False) == ""


@pytest.mark.parametrize(
    "text",
    [
        ADVICE,
        "建议到医院就诊，可以提前在网上预约挂号。",
        "您可以拨打医院的预约电话，或使用在线预约系统。",
        "请不要相信祖传秘方、包治百病的广告，更不要拨打所谓的咨询电话13800138000。",
        "切勿轻信偏方秘方，以免延误病情。",
        "不能加我微信，请到门诊就诊。",
        "有人让您加微信号abc12345转账，谨防受骗。",
        "如有轻生念头，请拨打心理援助热线400-161-9995。",
        "发生胸痛请立即拨打急救电话120。",
        "您可以点击“病历”上传检查报告。",
        "这个药效果好，不会复发的可能性大。",
        "维生素B和QT间期都要注意，VX-770目前没有上市。",
        "缺钙可以加VC促进吸收，加VD3也可以。",
        "增加我们之间的沟通，多关注孩子。",
        "特效药目前没有，对症治疗即可。",
        "可以关注医院微信公众号，了解出诊时间。",
        "微信咨询眼科医生也说是粉瘤。",
    ],
)
def test_a_doctor_s_answer_is_no_advertising(text):
    assert reason(answered(text)) == ""


def test_exam_questions_pass():
    question = Question(id="a", stem="高血压首选？", choices=("A", "B"), answer="A", subject="内科", source="test")
    assert opened(quality, min_chars=5)(question) is question


def test_a_good_record_is_handed_on_as_it_is():
    record = answered(ADVICE)
    assert opened(quality)(record) is record
