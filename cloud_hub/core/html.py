"""Pages that stand alone: one HTML file that loads nothing, runs nothing and shows whatever it is given as text."""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # what a browser may do for it
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0}h2{font-size:1.25rem;border-bottom:1px solid #d5dbe3;padding-bottom:.2rem;margin-top:2.2rem}
h3{font-size:1rem;margin-bottom:.3rem}.sub{color:#5b6776;margin-top:.2rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:.9rem}caption{text-align:left;color:#5b6776;padding-bottom:.2rem}
th,td{border-bottom:1px solid #e4e8ee;padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
figure{margin:.6rem .9rem .6rem 0;display:inline-block;vertical-align:top}figure svg{max-width:100%;height:auto}
figcaption{color:#5b6776;font-size:.85rem;max-width:60rem}
img{image-rendering:pixelated;height:96px;border:1px solid #e4e8ee;margin-right:.4rem}
pre{background:#f5f7fa;padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}
.good{color:#146c2e}.bad{color:#b3261e;font-weight:600}
"""
_HEAD = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)  # XML declaration and document type
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)  # who drew it, and when: the same figure gives the same bytes


class Drawing(Protocol):
    """A matplotlib figure, which this module does not import."""

    def savefig(self, fname: Any, *, format: str, **options: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Mark:
    """A cell that catches the eye."""

    text: str
    good: bool


Cell = str | int | float | bool | None | Mark


class Page:
    """Written from top to bottom. All texts are escaped; numbers in tables are set to the right, floats with four digits."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if subtitle:
            self._parts.append(f'<p class="sub">{escape(subtitle)}</p>')

    def section(self, title: str, text: str = "") -> None:
        self._parts.append(f"<h2>{escape(title)}</h2>")
        if text:
            self.text(text)

    def heading(self, title: str) -> None:
        """Within a section."""
        self._parts.append(f"<h3>{escape(title)}</h3>")

    def text(self, text: str, *, good: bool | None = None) -> None:
        kind = {None: "", True: ' class="good"', False: ' class="bad"'}[good]
        self._parts.append(f"<p{kind}>{escape(text)}</p>")

    def items(self, lines: Iterable[str]) -> None:
        """A list; nothing where there is none."""
        entries = "".join(f"<li>{escape(line)}</li>" for line in lines)
        if entries:
            self._parts.append(f"<ul>{entries}</ul>")

    def code(self, text: str) -> None:
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def facts(self, facts: Mapping[str, Cell]) -> None:
        """A name and a value a line."""
        rows = "".join(f"<tr><th>{escape(name)}</th>{_cell(value)}</tr>" for name, value in facts.items())
        self._parts.append(f"<table>{rows}</table>")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "") -> None:
        body = [list(row) for row in rows]
        numeric = [all(isinstance(row[i], int | float | None) for row in body) and bool(body) for i in range(len(columns))]
        heads = "".join(
            f'<th class="n">{escape(name)}</th>' if right else f"<th>{escape(name)}</th>"
            for name, right in zip(columns, numeric, strict=True)
        )
        lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in body)
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        self._parts.append(f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>")

    def figure(self, drawing: Drawing, caption: str = "") -> None:
        """Drawn into the page as SVG."""
        file = io.BytesIO()
        drawing.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
        svg = _METADATA.sub("", _HEAD.sub("", file.getvalue().decode("utf-8"), count=1))
        self._parts.append(f"<figure>{svg}{_caption(caption)}</figure>")

    def pictures(self, pictures: Iterable[tuple[bytes, str]]) -> None:
        """PNG files side by side, each with its caption."""
        for png, caption in pictures:
            data = base64.b64encode(png).decode("ascii")
            self._parts.append(
                f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">{_caption(caption)}</figure>'
            )

    def html(self) -> str:
        return (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head>"
            f"<body>{''.join(self._parts)}</body></html>\n"
        )


def _cell(value: Cell) -> str:
    if isinstance(value, Mark):
        return f'<td class="{"good" if value.good else "bad"}">{escape(value.text)}</td>'
    if value is None:
        return "<td>-</td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    if isinstance(value, float):
        return f'<td class="n">{value:.4g}</td>'
    return f"<td>{escape(value)}</td>"


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""
