"""A page that needs nothing else: one HTML file, its style in it, without scripts, with the same bytes each time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medcli.core.atomic import writing
from medcli.core.resources import templates


def write(path: Path, template: str, context: Mapping[str, Any], filters: Mapping[str, Callable[..., str]]) -> None:
    """Fill in a `template` of `templates/`, where all text is escaped, and write it to `path`; raises StorageError.

    A template takes the common style by `{% include "page.css" %}`; numbers are grouped by the filter `number`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates()),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"number": "{:,}".format, **filters}
    text = environment.get_template(template).render(context)
    with writing(path) as file:
        file.write(text + "\n")
