"""The evaluation report as one HTML file that needs nothing else, and as Markdown for an artifact."""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from ecner.nightly.report import markdown_cell
from ecner.retraining.compare import Comparison
from ecner.retraining.reading import CHALLENGER
from ecner.retraining.sections import Cell, Marked, Picture, Section, Surroundings, Table, plain, sections

MARKDOWN_BYTES = 300_000  # what Prefect's server and its page take without trouble
_NUMBER = re.compile(r"[+-]?[\d.,]+%?( \[.*\])?")
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --page: #fff; --line: #d8dade; --soft: #62666d; --mark: #ffe58a }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --page: #16181c; --line: #3a3e45; --soft: #9aa0a8; --mark: #6b5600 }
}
body { margin: 0 auto; padding: 1rem; max-width: 64rem; color: var(--ink); background: var(--page);
  font: 16px/1.5 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", sans-serif;
  overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .875rem; overflow-wrap: normal }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { color: var(--soft); font-weight: 600 } td.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums } td.context { min-width: 16rem }
mark { background: var(--mark); color: inherit } img { max-width: 100%; height: auto }
"""


@dataclass(frozen=True)
class Page:
    """The report, worked out once with its pictures, to be shown in either form."""

    title: str
    sections: tuple[Section, ...]

    @classmethod
    def of(cls, comparison: Comparison, around: Surroundings) -> "Page":
        """The report on a comparison and what is around it."""
        title = f"Evaluation of {comparison.versions[CHALLENGER]}"
        return cls(title, tuple(sections(comparison, around)))

    def to_html(self) -> str:
        """A page without script or network, light or dark as the reader's system is."""
        title = _html(self.title)
        body = "\n".join(map(_html_section, self.sections))
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n"
            "</body>\n</html>\n"
        )

    def to_markdown(self) -> str:
        """Markdown with the pictures in it; what goes beyond MARKDOWN_BYTES is left to the page, pictures first."""
        blocks = [f"# {markdown_cell(plain(self.title))}"]
        pictures: dict[int, str] = {}
        for section in self.sections:
            blocks.append(f"## {markdown_cell(section.title)}")
            for block in section.blocks:
                if isinstance(block, Picture):
                    pictures[len(blocks)] = f"![{markdown_cell(block.alt)}]({_data_uri(block.svg)})"
                blocks.append(_markdown_block(block))
        left = MARKDOWN_BYTES - sum(len(block.encode()) + 2 for block in blocks)
        for place, picture in pictures.items():
            if len(picture) <= left:
                left -= len(picture)
                blocks[place] = picture
        return _fitting(blocks)


def _html_section(section: Section) -> str:
    return "\n".join([f"<h2>{_html(section.title)}</h2>", *map(_html_block, section.blocks)])


def _html_block(block: str | Table | Picture) -> str:
    if isinstance(block, Picture):
        return f'<p><img alt="{_html(block.alt)}" src="{_data_uri(block.svg)}"></p>'
    if isinstance(block, str):
        return f"<p>{_html(block)}</p>"
    head = "".join(f'<th scope="col">{_html(name)}</th>' for name in block.head)
    rows = "\n".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in block.rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def _html_cell(cell: Cell) -> str:
    if isinstance(cell, Marked):
        before, mention, after = map(_html, cell)
        return f'<td class="context">{before}<mark>{mention}</mark>{after}</td>'
    return f'<td class="number">{_html(cell)}</td>' if _NUMBER.fullmatch(cell) else f"<td>{_html(cell)}</td>"


def _html(text: str) -> str:
    return escape(plain(text))


def _markdown_block(block: str | Table | Picture) -> str:
    """A picture by its words, in whose place it may be put."""
    if isinstance(block, Picture):
        return f"*{markdown_cell(block.alt)}: see the page*"
    if isinstance(block, str):
        return markdown_cell(plain(block))
    lines = [
        list(map(_markdown_cell, block.head)),
        ["---"] * len(block.head),
        *([_markdown_cell(cell) for cell in row] for row in block.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    if isinstance(cell, Marked):
        before, mention, after = (markdown_cell(plain(part)) for part in cell)
        return f"{before}**{mention}**{after}"
    return markdown_cell(plain(cell))


def _fitting(blocks: Iterable[str]) -> str:
    """The blocks from the first on that fit."""
    kept, size = [], 0
    for block in blocks:
        size += len(block.encode()) + 2
        if size > MARKDOWN_BYTES:
            break
        kept.append(block)
    return "\n\n".join(kept) + "\n"


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
