"""Find passages by their words: BM25 (Robertson & Walker 1994, by bm25s) on jieba's words and character pairs.

The index is numpy arrays, mapped into memory, and JSON: nothing in it can run a program. Beside the order that BM25
gives, each passage has a score that means the same for every question and library: how much of what is asked it has.
"""

import logging
import re
import warnings
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import bm25s  # type: ignore[import-untyped]
import numpy
import numpy.typing as npt

from medcli.core.errors import DataError
from medcli.core.settings import folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its source has escapes that newer Pythons warn of
    import jieba

logging.getLogger("bm25s").setLevel(logging.ERROR)

FITS = 0.45  # the score from which on a passage is about what is asked
# The mass of what is asked, in words as rare as can be: no less than half of one is needed to tell anything, and ten
# say what it is about, however long a patient's story is.
_LEAST, _MOST = 0.5, 10.0
_ROWS = 10_000  # a small library says little of how rare a word is: it counts as one of so many passages
_LONGEST = 1000  # characters of a question that are looked at
_CANDIDATES = 50
_RUN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]+|[a-z0-9]+(?:[.\-][a-z0-9]+)*")
_HAN = "\u3400"
# What stands in any question and says nothing of its subject; character pairs do not cross it.
_SAID_ANYWHERE = """
的 了 是 我 你 您 他 她 它 谁 们 我们 你们 他们 她们 它们 有 在 和 与 或 及 就 都 也 还 很 不 没 吗 呢 吧 啊 呀 么 嘛 哦
什么 怎么 怎样 怎么样 如何 哪些 哪个 哪里 哪 几 多少 多久 为什么 为何 啥 咋 怎么办 怎么回事 是不是 是否 有没有 有无
有哪些 可以 能 能够 会 要 应该 需要 该 想 请 请问 请教 谢谢 你好 您好 医生 大夫 问 问一下 一下 知道 告诉 介绍 说 做
用 去 来 看 这 那 这个 那个 这些 那些 这样 那样 此 其 该病 一个 一种 一些 一般 比较 情况 问题 关于 对于 得 着 过 把 被
对 从 到 给 让 因为 所以 但是 但 如果 而 而且 并 并且 以及 再 又 等 之 于 以 为 上 下 中 里 最近 现在 今天 明天 昨天
时候 非常 特别 真的 不能 不可 不可以 不会 不要 不宜 不用 不该 能不能 能否 可否 可不可以 要不要 会不会 必须 应当 千万
下列 以下 其中 哪一项 哪项 正确 错误 说法 选项 the a an of to is are in on and or for what how which
"""
_STOP_WORDS = frozenset(_SAID_ANYWHERE.split())


def words_of(text: str) -> list[str]:
    """What a text is found by: words, and the pairs of neighbouring characters that no stop word parts."""
    found: list[str] = []
    for run in _RUN.findall(text.lower()):
        if run[0] >= _HAN:
            found += _of_chinese(run)
        elif run not in _STOP_WORDS:
            found.append(run)
    return found


def _whole_words(text: str) -> Iterator[str]:
    """The words of a text, without pairs across them."""
    for run in _RUN.findall(text.lower()):
        for word in _cutter().cut(run, HMM=False) if run[0] >= _HAN else [run]:
            if word not in _STOP_WORDS:
                yield word


@lru_cache(maxsize=1 << 16)  # names and set phrases come again and again, and cutting is what costs
def _of_chinese(run: str) -> tuple[str, ...]:
    return tuple(_cut(run))


def _cut(run: str) -> Iterator[str]:
    part = ""
    for word in (*_cutter().cut(run, HMM=False), ""):
        if word and word not in _STOP_WORDS:
            part += word
            if len(word) != 2:  # a word of two is a pair itself
                yield word
            continue
        yield from (part[place : place + 2] for place in range(len(part) - 1))
        part = ""


class IndexWriter:
    """Takes passages one by one. It holds 4 bytes a word, and about 40 a different word of a passage in `finish`."""

    def __init__(self) -> None:
        self._vocabulary: dict[str, int] = {}
        self._rows: list[array[int]] = []

    def add(self, text: str) -> None:
        """Take the next passage."""
        number = self._vocabulary.setdefault
        words = words_of(text) or [""]
        self._rows.append(array("i", [number(word, len(self._vocabulary)) for word in words]))

    def finish(self, path: Path) -> None:
        """Write the index to the folder `path`."""
        index = bm25s.BM25()
        index.index((self._rows, self._vocabulary), show_progress=False)
        index.save(path, show_progress=False, allow_pickle=False)


class PassagesIndex:
    """An index in a folder; may be asked by any thread. Raises DataError when it is none."""

    def __init__(self, path: Path) -> None:
        try:
            self._index = bm25s.BM25.load(path, mmap=True, load_corpus=False, show_progress=False)
            scores = self._index.scores
            self._starts, self._passages = numpy.asarray(scores["indptr"]), numpy.asarray(scores["indices"])
            self._count = int(scores["num_docs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: not an index, or a damaged one: {error}", hint="build it again: med kb build"
            ) from error
        rows = max(self._count, _ROWS)
        having = numpy.diff(self._starts)
        # BM25's weight of a word, its inverse document frequency, as a share of that of a word which no passage has.
        self._rareness = numpy.log1p((rows - having + 0.5) / (having + 0.5)) / numpy.log1p((rows + 0.5) / 0.5)
        _cutter().initialize()

    def __len__(self) -> int:
        return self._count

    def search(self, question: str, limit: int) -> list[tuple[int, float]]:
        """(number, score) of the passages that fit a question best, in BM25's order; scores run from 0 to 1."""
        words = dict.fromkeys(words_of(question[:_LONGEST]))
        vocabulary = self._index.vocab_dict
        known = [vocabulary[word] for word in words if word in vocabulary]
        if not known:
            return []
        # A word that no passage has is asked for in vain; a pair that none has is but an accident of neighbours.
        missing = sum(word not in vocabulary for word in dict.fromkeys(_whole_words(question[:_LONGEST])))
        asked = missing + float(self._rareness[known].sum())
        order = self._best(known, max(limit, _CANDIDATES))
        shares = self._covered(known, order) / min(max(asked, _LEAST), _MOST)
        found = zip(order.tolist(), shares.tolist(), strict=True)
        return [(number, min(1.0, share)) for number, share in found if share > 0][:limit]

    def _best(self, known: Sequence[int], most: int) -> npt.NDArray[Any]:
        """The numbers of the best passages, the best first; of equals the earlier one."""
        scores = self._index.get_scores_from_ids(list(known))
        chosen = numpy.flatnonzero(scores)
        if most < len(chosen):
            having = scores[chosen]
            least = numpy.partition(having, -most)[-most]
            better, equal = chosen[having > least], chosen[having == least]
            chosen = numpy.sort(numpy.concatenate([better, equal[: most - len(better)]]))
        best: npt.NDArray[Any] = chosen[numpy.argsort(-scores[chosen], kind="stable")]
        return best

    def _covered(self, known: Sequence[int], passages: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """How rare the words are, together, that each of `passages` has of those that are asked."""
        covered = numpy.zeros(len(passages))
        for word in known:
            having = self._passages[self._starts[word] : self._starts[word + 1]]  # sorted
            places = numpy.searchsorted(having, passages)
            covered += self._rareness[word] * (having[numpy.minimum(places, len(having) - 1)] == passages)
        return covered


@cache
def _cutter() -> Any:
    jieba.setLogLevel(logging.CRITICAL)
    # A cutter of our own keeps its cache in our folder; jieba's is a file in /tmp that anyone may write.
    cutter = jieba.Tokenizer()
    cutter.tmp_dir = str(folder("cache"))
    with suppress(OSError):  # without a cache the dictionary is read anew, 0.6 s
        folder("cache").mkdir(parents=True, exist_ok=True)
    return cutter
