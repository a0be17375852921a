"""Find names of people in Chinese text: a surname before a doctor's title, or a whole name after a word for one.

No list of names and no segmenter: a surname, given characters that no common word is made of, and what stands around.
"Mr Wang" (王先生) and 王某 are how the field hides a name, so they are no identifiers; 王医生, with a hospital, is one.
"""

import re
from collections.abc import Iterator

# Surnames that end hardly any other word: they count wherever a title follows.
_STRONG = frozenset(
    "王李张刘陈杨赵吴徐孙朱郭马胡梁宋郑韩唐冯董萧曹袁邓沈彭吕卢蒋蔡贾魏薛潘杜戴汪姜姚谭廖邹熊郝崔邱秦侯邵孟龙雷"
    "尹黎贺赖龚庞樊殷陶翟倪芦俞葛韦聂柳邢岳祁耿牟詹靳裴瞿鲍覃霍翁隋阎阮肖闫谌褚娄臧晁滕窦郜晏邬邸鄢冼"
    "林何罗傅曾钱施洪颜鲁凌欧甘闵骆乔申丛"
)
# Surnames that common words end with (结石, 过程, 一周, 阿司匹林): only after a break or a word that calls a person.
_WEAK = frozenset(
    "黄周高程许苏丁叶余夏钟田任范方石金陆孔白康毛江史顾段汤易常武文兰安严牛温季章伍尤毕焦左谷舒卜关费纪盛童项曲游席卫屈景柏宁"
    "柯桂柴华车冉梅莫庄涂辛齐苗路单古祝连"
)
# Surnames that are mostly something else before a title (谢谢医生, 向医生, 于医生处): only after a greeting or thanks.
_GREETED = frozenset("谢于向查管应和时")
_COMPOUND = ("欧阳", "司马", "上官", "诸葛", "皇甫", "尉迟", "令狐", "夏侯", "慕容", "司徒", "公孙")
_SURNAMES = "".join(sorted(_STRONG | _WEAK | _GREETED))
_COMPOUNDS = "|".join(_COMPOUND)

_TITLE = re.compile(r"医生|大夫|医师|主任|教授|护士|院长|药师|院士|老师|先生|女士|小姐|太太")
_POLITE = frozenset({"先生", "女士", "小姐", "太太"})  # a surname alone before these hides a name
_CALLED = tuple("的了您你吗啊吧呢呀找请望询叫是问教那位与跟有下给让由向和在")
_GREETINGS = ("谢谢", "感谢", "多谢", "谢谢您", "您好", "你好", "请问", "麻烦", "辛苦了", "我是", "请教", "打扰了")
# Words that end with a strong surname, or with a weak one after a character of _CALLED.
_ENDING = re.compile(
    "[任如为几]何|[未不何]曾|[园森树丛匹西法贝菌]林|[克收张]罗|师傅|[零省花药工赚]钱|[措实设]施|[防抗]洪|[容五美]颜|粗鲁|[引重]申|灌丛|"
    "心甘|[紧扩主夸慌一两几这那每]张|[国霸女]王|[行桃]李|白杨|立马|二胡|[鼻桥脊]梁|[佩穿]戴|[尼恐]龙|地雷|[生干]姜|北宋|荒唐|诸侯|"
    "请[安关]|问[安路]|[是的][单常高白方路]|了[方车苦]|[叫的]车|有[关方]|[位下]单|下方"
)
# What a given name is hardly ever made of, but common words after a surname's character are.
_NOT_GIVEN = frozenset(
    "的了是在不有我你您他她它们这那哪和与或及就都也还要会能请让给找问说看去到从向对把被为个些很最更再又并而但因所时候后前"
    "上下内外里日次种性病症科室院诊治疗查检验药血压糖岁男女者患医护师主任专级规排班每各位名今昨早晚什么怎何谁多少几二三四"
    "五六七八九十百两半只已经没无非应该须必将当果即则其此另样等做作用法现出入始结束完得着过起听叫打吃喝服痛疼烧热咳嗽炎"
    "癌瘤肿胀痒麻酸软胃肠肝肾肺脑眼耳鼻喉口牙皮肤腹胸背腰腿脚手头部低量度减加升降快慢某先老阿姨叔伯爷奶妈爸哥姐弟妹夫妻"
    "婆公孩父母儿亲友员工谢好吗呢吧啊呀哦嗯见间面便围末边复旧括舱题期段况情感觉常住区县省州路号街例式似属且虽比较按据"
    "若尽管由于至类型细胞膏疸色酶体液尿粪汤片剂丸散囊针支架疫苗预防接苦危端"
)
# Words that begin with a surname's character and that the list above lets pass.
_WORD = re.compile(
    "高[明中年发原薪校大龄超一]|白[天人芷术芍]|黄[金山芪连芩柏精]|柴胡|杜仲|何[首必苦况]|石[斛韦]|苏[叶梗木]|龙[骨胆]|马齿|"
    "施暴|曾经|江[苏西湖南北]|石[家油]|金[牌华]|温[和馨]|武[汉警大]|成都|宁[波夏]|安[徽全静心]|"
    "康[健泰]|许久|周[一六]|马[上克来]|明[白天显]|丁香|孙子|韩国|唐山|秦皇|沈阳|洪山|夏[天季]|林业|严[重格厉]|左右|单[位纯独身]|"
    "华[西东北南佗]|申[请城康]|关[于心注键联]|余[下生]|史上|方可|任[意凭]|文[献章]|连[同续带]|苗条|祝[愿福]|古代|舒适|汤姆|"
    "欧洲|罗马|林匹|田园|陆军|施行|纪念|盛行|费力|游泳|项目|甘油|景观|柏林|和谐|尚且"
)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_END = r"(?=$|[^\u4e00-\u9fff]|性别|男|女|年龄|出生|电话|身份证|住址|今年|因|系|诉|于|自|是|同志|先生|女士)"
_WHOLE = rf"(?:{_COMPOUNDS}|[{_SURNAMES}])[\u4e00-\u9fff]{{1,2}}?"
_KIN = "妈妈|爸爸|父亲|母亲|爱人|老公|老婆|妻子|丈夫|老伴|儿子|女儿|奶奶|爷爷|外公|外婆|姥姥|姥爷"
# A field of a form, or somebody named in a sentence.
_TOLD = re.compile(
    r"(?:姓\s?名|签名|联系人|监护人|(?:预约|主治|主管|主刀|接诊|经治|管床|责任|申请|报告|审核)(?:医生|医师))"
    rf"\s*(?:[:：]\s*|(?:是|为|叫)\s*)(?P<field>(?:{_WHOLE}|[\u4e00-\u9fff]{{2,8}}·[\u4e00-\u9fff]{{2,10}}){_END})"
    r"|(?:我叫|我的名字(?:是|叫)|名叫|名字叫|(?:[孩儿]子|[宝儿她他])叫|(?<!日)本人(?:叫|是)?|我是|"
    rf"(?:患者|病人|患儿|家属)[ ]?[:：]?|{_KIN})[ ]?(?P<said>{_WHOLE}{_END})"
    rf"|我是(?P<whose>{_WHOLE})(?=的(?:家属|家长|{_KIN}))"
)
_AGE_OR_SEX = re.compile(r"\s?[,，、（(]?\s?(?:男|女|性别|年龄|[0-9]{1,3}\s?岁)")


def names(text: str) -> Iterator[tuple[int, int]]:
    """Where names stand, as (start, end): the surname alone when only that is told; titles do not belong to it."""
    for title in _TITLE.finditer(text):
        if not text.startswith("们", title.end()) and (start := _before_title(text, title.start(), title[0])) >= 0:
            yield start, title.start()
    for match in _TOLD.finditer(text):
        if _is_told(text, match):
            yield match.span(match.lastgroup or 0)


def _before_title(text: str, end: int, title: str) -> int:
    """Where the name before a title begins; -1 when none stands there. The longest reading counts."""
    for length in (3, 2):
        start = end - length
        if start >= 0 and _is_whole_name(text[start:end]) and _stands_apart(text, start):
            return start
    if title in _POLITE:
        return -1
    if end >= 2 and text[end - 2 : end] in _COMPOUND:
        return end - 2
    return end - 1 if end and _stands_apart(text, end - 1) else -1


def _is_whole_name(name: str) -> bool:
    """Whether this may be a surname and one or two given characters."""
    given = name[2:] if name[:2] in _COMPOUND else name[1:]
    if not given or not all(_HAN.match(character) for character in name):
        return False
    known = name[:2] in _COMPOUND or name[0] in _STRONG or name[0] in _WEAK
    return known and not _WORD.match(name) and _NOT_GIVEN.isdisjoint(given)


def _stands_apart(text: str, start: int) -> bool:
    """Whether the surname at `start` begins a name, rather than ends another word."""
    surname, before = text[start], text[max(0, start - 4) : start]
    if text.startswith(_COMPOUND, start):
        return True
    if _ENDING.fullmatch(before[-1:] + surname):
        return False
    if surname in _STRONG:
        return True
    if before.endswith(_GREETINGS):
        return surname in _WEAK or surname in _GREETED
    return surname in _WEAK and (not before or not _HAN.match(before[-1]) or before.endswith(_CALLED))


def _is_told(text: str, match: re.Match[str]) -> bool:
    """After 患者 or 本人 a weak surname may begin any word (患者高烧，): then age or sex must follow."""
    if field := match["field"]:
        return "·" in field or _NOT_GIVEN.isdisjoint(field[1:])
    name = match["whose"] or match["said"]
    called = "叫" in match[0] or "名字" in match[0] or name[0] not in _WEAK
    return _is_whole_name(name) and (called or bool(_AGE_OR_SEX.match(text, match.end())))
