"""One self-contained HTML page from a template and facts: escaped, without scripts, links or anything fetched."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from clinibundle.report.wording import count_text, metric_text, value_text


@dataclass(frozen=True)
class Figure:
    """A picture of a report.

    Attributes:
        caption: what it shows, also read out to those who cannot see it.
        png: the picture, with outlines if there are any.
        plain_png: the same view without outlines; where given, the reader can switch.
    """

    caption: str
    png: bytes
    plain_png: bytes | None = None


def render(template: str, **facts: Any) -> str:
    """The page that `templates/<template>` makes of the facts; the same facts give the same text."""
    return _environment().get_template(template).render(**facts)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("clinibundle.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["value"] = value_text
    environment.filters["metric"] = metric_text
    environment.globals["count_text"] = count_text
    return environment


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
