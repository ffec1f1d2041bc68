"""One self-contained HTML page from a template and facts: escaped, with nothing fetched.

It runs nothing, or one script of our own, which the page's policy names by its fingerprint: what else looks like a
script, such as a hostile word, stays without effect.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from clinibundle.report.wording import count_text, metric_text, value_text

_TEMPLATES = PackageLoader("clinibundle.report")
_WEBP_BEGINS = b"RIFF"


@dataclass(frozen=True)
class Figure:
    """A picture of a report.

    Attributes:
        caption: what it shows, also read out to those who cannot see it.
        png: the picture, with outlines if there are any; PNG or WebP.
        plain_png: the same view without outlines; where given, the reader can switch.
        marks: an `<svg>` to be laid over either, as of `marks.marks_svg`, or empty.
    """

    caption: str
    png: bytes
    plain_png: bytes | None = None
    marks: str = ""


@dataclass(frozen=True)
class Script:
    """A script of our own, from the templates' folder."""

    text: str

    @property
    def fingerprint(self) -> str:
        """As a page's Content-Security-Policy names it."""
        return f"sha256-{base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode()}"


def render(template: str, **facts: Any) -> str:
    """The page that `templates/<template>` makes of the facts; the same facts give the same text."""
    return _environment().get_template(template).render(**facts)


def own_script(name: str) -> Script:
    """The script `templates/<name>`."""
    return Script(_TEMPLATES.get_source(_environment(), name)[0])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=_TEMPLATES,
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


def _data_uri(picture: bytes) -> str:
    kind = "webp" if picture.startswith(_WEBP_BEGINS) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
