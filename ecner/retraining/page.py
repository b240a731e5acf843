"""The evaluation report as one HTML file that needs nothing else, and as Markdown for an artifact."""

from collections.abc import Iterable
from dataclasses import dataclass

from ecner.pages import Block, Cell, Marked, Picture, Section, data_uri, markdown_cell, plain, to_html
from ecner.retraining.compare import Comparison
from ecner.retraining.reading import CHALLENGER
from ecner.retraining.sections import Surroundings, sections

MARKDOWN_BYTES = 300_000  # what Prefect's server and its page take without trouble


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
        return to_html(self.title, self.sections)

    def to_markdown(self) -> str:
        """Markdown with the pictures in it; what goes beyond MARKDOWN_BYTES is left to the page, pictures first."""
        blocks = [f"# {markdown_cell(plain(self.title))}"]
        pictures: dict[int, str] = {}
        for section in self.sections:
            blocks.append(f"## {markdown_cell(section.title)}")
            for block in section.blocks:
                if isinstance(block, Picture):
                    pictures[len(blocks)] = f"![{markdown_cell(block.alt)}]({data_uri(block.svg)})"
                blocks.append(_markdown_block(block))
        left = MARKDOWN_BYTES - sum(len(block.encode()) + 2 for block in blocks)
        for place, picture in pictures.items():
            if len(picture) <= left:
                left -= len(picture)
                blocks[place] = picture
        return _fitting(blocks)


def _markdown_block(block: Block) -> str:
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
