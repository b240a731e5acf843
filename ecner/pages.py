"""What stands on a page, as sections of paragraphs, tables and pictures, and the page as one HTML file.

The file needs nothing else: no network, no font, no other file. Whatever a cell or a paragraph holds is text.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Literal, NamedTuple

from ecner.resources import asset

_NUMBER = re.compile(r"(over )?[+-]?[\d.,]+%?( to [\d.,]+)?( \[.*\])?")
_LONG_CELL = 30  # characters that are to stay on one line
_LONG = "long"


class Marked(NamedTuple):
    """A mention in its context."""

    before: str
    mention: str
    after: str


Cell = str | Marked


class Table(NamedTuple):
    """Rows of cells under a head, and what is to be known of them.

    A long one can be sorted and filtered. Tiles are few: what, its value, and what there is to say of it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    form: Literal["plain", "long", "tiles"] = "plain"


class Picture(NamedTuple):
    """An SVG document, what it shows in words, and what is to be known of it."""

    svg: str
    alt: str
    note: str = ""


Block = str | Table | Picture


class Section(NamedTuple):
    """A title, and what stands under it."""

    title: str
    blocks: Sequence[Block]


def to_html(title: str, sections: Sequence[Section]) -> str:
    """A page, light or dark as the reader's system is; with a script only where a table is long.

    Its content security policy lets nothing load, and nothing run but that script.
    """
    style, script = _asset("page.css"), _asset("page.js")
    is_long = any(isinstance(block, Table) and block.form == _LONG for part in sections for block in part.blocks)
    scripts = f"script-src {_hash(script)}; " if is_long else ""
    policy = f"default-src 'none'; img-src data:; {scripts}style-src {_hash(style)}"
    body = "\n".join(map(_section, sections))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>\n{body}\n"
        f"{f'<script>{script}</script>' if is_long else ''}</body>\n</html>\n"
    )


def plain(text: str) -> str:
    """Customers' words on one line, without what would steer whoever shows them."""
    return printable(re.sub(r"\s", " ", text))


def printable(text: str) -> str:
    """Customers' words without what would steer a terminal: control characters and changes of direction."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def markdown_cell(text: str) -> str:
    """Customers' words in a Markdown table."""
    return "".join(f"\\{c}" if c in "|\\`*_[]<>" else c for c in printable(text))


def data_uri(svg: str) -> str:
    """A picture as an address that holds it: what is drawn there can neither run nor load anything."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _asset(name: str) -> str:
    return asset(f"page/{name}").read_text("utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _section(section: Section) -> str:
    return "\n".join([f"<h2>{_text(section.title)}</h2>", *_blocks(section.blocks)])


def _blocks(blocks: Sequence[Block]) -> Iterator[str]:
    """Pictures in a row stand side by side, where there is room."""
    for are_pictures, group in groupby(blocks, lambda block: isinstance(block, Picture)):
        drawn = "\n".join(map(_block, group))
        yield f'<div class="pictures">\n{drawn}\n</div>' if are_pictures else drawn


def _block(block: Block) -> str:
    if isinstance(block, Picture):
        image = f'<img alt="{_text(block.alt)}" src="{data_uri(block.svg)}">'
        return f"<figure>{image}{_caption(f'{block.alt}.', block.note)}</figure>"
    if isinstance(block, str):
        return f"<p>{_text(block)}</p>"
    if block.form == "tiles":
        return f'<dl class="tiles">\n{"".join(map(_tile, block.rows))}</dl>{_paragraph(block.note)}'
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in block.head)
    classes = [_class(column) for column in zip(*block.rows, strict=True)]
    rows = "\n".join(f"<tr>{''.join(map(_cell, row, classes))}</tr>" for row in block.rows)
    return (
        f'<figure class="table {block.form}">{_caption("", block.note)}<div class="wide"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div></figure>"
    )


def _caption(title: str, note: str) -> str:
    if not note:
        return ""
    return f"<figcaption>{f'<strong>{_text(title)}</strong> ' if title else ''}{_text(note)}</figcaption>"


def _paragraph(note: str) -> str:
    return f"<p>{_text(note)}</p>" if note else ""


def _tile(row: Sequence[Cell]) -> str:
    what, value, detail = map(str, row)
    return f'<div><dt>{_text(what)}</dt><dd class="value">{_text(value)}</dd><dd>{_text(detail)}</dd></div>\n'


def _class(column: Sequence[Cell]) -> str:
    """Of a column's cells: numbers stand to the right, text is wrapped."""
    told = [cell for cell in column if cell]
    if told and all(isinstance(cell, str) and _NUMBER.fullmatch(cell) for cell in told):
        return ' class="number"'
    return ' class="text"' if any(len(cell) > _LONG_CELL for cell in told) else ""


def _cell(cell: Cell, of: str) -> str:
    if isinstance(cell, Marked):
        before, mention, after = map(_text, cell)
        return f'<td class="context">{before}<mark>{mention}</mark>{after}</td>'
    return f"<td{of}>{_text(cell)}</td>"


def _text(text: str) -> str:
    return escape(plain(text))
