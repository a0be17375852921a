"""Collects what `med` says: each sentence that reaches an error, a report or the console, as it is written in the code.

A place in an f-string is named after what stands there. `translated` needs the same sentences in every language's file.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

from medcli.core import errors
from medcli.core.catalogue import PLACE

PACKAGE = Path(__file__).parents[1] / "medcli"
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)} - {"UnknownNameError"}
SAYING = {"say", "note", "_note", "stage", "words", "watch"}  # functions whose first argument is shown
SHOWN_FIELDS = {"hint", "problem", "message"}  # arguments of any call that are shown in the end
FIELDS_OF = {"Command": {"help"}, "Finding": {"check"}, "Goal": {"wanted", "found"}}
PLACES_OF = {"part": (1, 2), "_item": (2, 3)}  # arguments of other functions that are shown: from, to
# Whose `say` and `words` mean something else: names of the page's words, answers of the table, lists of words.
NOT_OURS = ("medcli/web/page_parts.py", "medcli/importers/knowledge", "medcli/core/triage_")


@dataclass(frozen=True)
class Said:
    """A sentence with its places, and where it is said."""

    text: str
    where: str


@dataclass
class Module:
    """A file of the package, with what its names stand for."""

    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text("utf-8"))

    @cached_property
    def values(self) -> dict[str, list[ast.expr]]:
        """Everything that is assigned to a name anywhere in the file, and what its functions return."""
        found: dict[str, list[ast.expr]] = {}
        for node in ast.walk(self.tree):
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.NamedExpr(target=ast.Name(id=name), value=value)
                ):
                    found.setdefault(name, []).append(value)
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=value):
                    for index, one in enumerate(names):
                        if isinstance(one, ast.Name):
                            found.setdefault(one.id, []).append(ast.Subscript(value, ast.Constant(index)))
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[value]):
                    found.setdefault(name, []).append(value)
                case ast.AugAssign(target=ast.Name(id=name), value=value):
                    found.setdefault(name, []).append(value)
                case ast.FunctionDef(name=name):
                    returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value]
                    found.setdefault(name, []).extend(returned)
        return found


class Collector:
    """Reads all files of the package, and resolves names between them."""

    def __init__(self) -> None:
        self.modules = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
        self._constants = {
            name: values
            for module in self.modules
            for name, values in module.values.items()
            if name.isupper() and name != "HELP"
        }

    def said(self) -> list[Said]:
        """Every sentence with letters of its own, each once, in the order of the files."""
        found: dict[str, Said] = {}
        for module in self.modules:
            name = str(module.path.relative_to(PACKAGE.parent))
            helps = module.values.get("HELP", []) if module.path.parent.name == "methods" else []
            saying = set() if name.startswith(NOT_OURS) else SAYING
            for expression in [*shown(module.tree, saying), *helps]:
                for text in self._texts(expression, module, set()):
                    for line in map(str.strip, text.split("\n")):
                        if has_words(line):
                            found.setdefault(shape(line), Said(line, f"{name}:{expression.lineno}"))
        return list(found.values())

    def _texts(self, expression: ast.expr, module: Module, seen: set[str]) -> list[str]:
        """The sentences that an expression can be; none where that is decided elsewhere."""
        match expression:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=values):
                return [joined(values)]
            case ast.IfExp(body=one, orelse=other):
                return self._texts(one, module, seen) + self._texts(other, module, seen)
            case ast.BoolOp(values=values):
                return [text for value in values for text in self._texts(value, module, seen)]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                pairs = product(self._texts(left, module, seen), self._texts(right, module, seen))
                return ["".join(pair) for pair in pairs]
            case ast.Subscript(value=ast.Tuple(elts=parts), slice=ast.Constant(value=int(index))):
                return self._texts(parts[index], module, seen) if index < len(parts) else []
            case ast.Subscript(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[_, default]), slice=place
            ):
                tables = [table for table in module.values.get(name, []) if isinstance(table, ast.Dict)]
                rows = [*(row for table in tables for row in table.values), default]
                return [text for row in rows for text in self._texts(ast.Subscript(row, place), module, seen)]
            case ast.Tuple(elts=[first, *_]):
                return self._texts(first, module, seen)
            case ast.List(elts=values):
                return [text for value in values for text in self._texts(value, module, seen)]
            case ast.Call(func=ast.Attribute(attr="join"), args=[inner]):
                return self._texts(inner, module, seen)
            case ast.Call(func=ast.Attribute(value=inner, attr="rstrip" | "strip" | "format")):
                return self._texts(inner, module, seen)
            case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) | ast.Attribute(attr=name) if name not in seen:
                values = module.values.get(name) or self._constants.get(name, [])
                return [text for value in values for text in self._texts(value, module, seen | {name})]
        return []


def shown(tree: ast.Module, saying: set[str]) -> Iterator[ast.expr]:
    """The expressions that reach a reader, by errors, fields and functions called one of `saying`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name in ERRORS | {"UnknownNameError", "Shelf", "__init__"}:
            yield from node.args[1 if name == "Shelf" else 0 :][:1]
        yield from node.args[slice(*PLACES_OF.get(name, (0, 0)))]
        if name in ERRORS:
            yield from node.args[1:2]
        if name in saying:
            yield from node.args[:1]
        fields = SHOWN_FIELDS | FIELDS_OF.get(name, set())
        yield from (word.value for word in node.keywords if word.arg in fields)


def called(call: ast.Call) -> str:
    """The last part of a called function's name."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def joined(values: list[ast.expr]) -> str:
    """An f-string as a sentence with named places."""
    text, counts = "", dict[str, int]()
    for value in values:
        if isinstance(value, ast.Constant):
            text += value.value
        else:
            name = place_of(value.value)
            counts[name] = counts.get(name, 0) + 1
            text += f"{{{name}{counts[name] if counts[name] > 1 else ''}}}"
    return text


def place_of(expression: ast.expr) -> str:
    """A name for what stands in an f-string's place."""
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(args=[first, *_]):
            return place_of(first)
        case ast.Call(func=function):
            return place_of(function)
        case ast.Subscript(value=value):
            return place_of(value)
    return "value"


def shape(text: str) -> str:
    """A sentence whose places have no names: what two writings of it share."""
    return PLACE.sub("{}", text)


def has_words(text: str) -> bool:
    """Whether there is anything to translate."""
    return any(letter.isalpha() for letter in PLACE.sub("", text))


def is_chinese(text: str) -> bool:
    """Whether it is written in Chinese, as only the disclaimers are."""
    return any("\u4e00" <= letter <= "\u9fff" for letter in PLACE.sub("", text))
