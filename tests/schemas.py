"""JSON Schemas of what --json prints, inferred from examples, so that a key that comes, goes or changes is noticed."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden" / "json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
# Objects whose keys are data, such as reasons, names of settings or of runs. All other objects have the keys they have.
MAPS = {
    "accuracy_per_category", "accuracy_per_subcategory", "changed", "departments", "duplicates", "examples", "gib",
    "languages", "outcomes", "plan", "refused", "results", "runs", "seconds", "settings", "sources", "turns",
    "versions",
}  # fmt: skip
ANYTHING = {"accuracy_per_subcategory", "plan", "results", "settings"}  # maps of values of no one type
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def inferred(examples: Sequence[Any]) -> dict[str, Any]:
    """The schema that all examples fit, and no other object: keys that not all have are not required."""
    schema = _of(examples[0], "")
    for example in examples[1:]:
        schema = _merged(schema, _of(example, ""))
    return {"$schema": DRAFT, **_sorted(schema)}


def widened(schema: dict[str, Any], path: str, types: str | list[str]) -> None:
    """Let the key at `path` be of these types, too."""
    schema = schema.get("items", schema)
    for part in path.split("."):
        schema = schema["properties"][part.removesuffix("[]")]
        schema = schema["items"] if part.endswith("[]") else schema
    schema["type"] = sorted({*_listed(schema["type"]), *_listed(types)})


def with_pattern(schema: dict[str, Any], key: str, pattern: str) -> None:
    """Let each key that fits the `pattern` be what `key`, an example of them, and `eval_` with it are."""
    properties = schema["properties"]
    schema["patternProperties"] = {pattern: properties.pop(key)}
    properties.pop(f"eval_{key}")


def read(name: str) -> dict[str, Any]:
    """The schema that is kept under a name."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def write(name: str, schema: dict[str, Any]) -> None:
    """Keep a schema."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(schema, ensure_ascii=False, indent=2) + "\n", "utf-8")


def keys(schema: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """(path, type) of every key, as `scores[].value` and `settings.*.origin`, in the order of the schema."""
    for name, inner in schema.get("properties", {}).items():
        path = f"{before}.{name}" if before else name
        yield path, type_of(inner)
        yield from keys(inner, path)
    if isinstance(each := schema.get("additionalProperties"), dict):
        yield from keys(each, f"{before}.*" if before else "*")
    if "items" in schema:
        yield from keys(schema["items"], f"{before}[]")


def type_of(schema: dict[str, Any]) -> str:
    """The types in words, `number or null`; any where all are allowed."""
    types = schema.get("type", "any")
    return types if isinstance(types, str) else " or ".join(types)


def _of(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, list):
        schema: dict[str, Any] = {"type": "array"}
        for item in value:
            schema["items"] = _merged(schema["items"], _of(item, "")) if "items" in schema else _of(item, "")
        return schema
    if not isinstance(value, dict):
        return {"type": _TYPES[type(value)]}
    inner = {key: _of(item, key) for key, item in value.items()}
    if name in MAPS or (name and not inner):
        each: dict[str, Any] | None = None
        for item in inner.values():
            each = item if each is None else _merged(each, item)
        loose = name in ANYTHING and each is not None and "origin" not in each.get("properties", {})
        return {"type": "object", "additionalProperties": {} if loose or each is None else each}
    if inner.keys() >= {"value", "origin"}:  # a setting
        inner["value"] = {}
    return {"type": "object", "properties": inner, "required": list(inner), "additionalProperties": False}


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What fits either."""
    if not one or not other:
        return one or other if "properties" in (one or other) else {}
    types = {*_listed(one["type"]), *_listed(other["type"])} if "type" in one and "type" in other else set()
    if "number" in types:
        types.discard("integer")
    schema: dict[str, Any] = {"type": types.pop() if len(types) == 1 else sorted(types)} if types else {}
    for word in ("items", "additionalProperties"):
        found = [part[word] for part in (one, other) if word in part]
        dicts = [part for part in found if isinstance(part, dict)]
        if found:
            schema[word] = _merged(*dicts) if len(dicts) == 2 else (dicts or found)[0]
    if "properties" in one or "properties" in other:
        first, second = one.get("properties", {}), other.get("properties", {})
        both = [key for key in first if key in second]
        schema["properties"] = {
            key: _merged(first[key], second[key]) if key in both else first.get(key, second.get(key))
            for key in {**first, **second}
        }
        sides = [part["required"] for part in (one, other) if "required" in part]
        schema["required"] = [key for key in sides[0] if all(key in side for side in sides)]
    return schema


def _listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _sorted(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, with what a reader looks for first in front."""
    order = ("type", "properties", "required", "items", "additionalProperties")
    result = {word: schema[word] for word in order if word in schema}
    for word in ("items", "additionalProperties"):
        if isinstance(result.get(word), dict):
            result[word] = _sorted(result[word])
    if "properties" in result:
        result["properties"] = {key: _sorted(inner) for key, inner in result["properties"].items()}
    return result
