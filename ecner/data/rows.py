"""What a file of labelled texts holds: good rows, and bad ones with the rule that they break."""

from dataclasses import dataclass
from typing import NamedTuple

from ecner.labels import Span, check_spans

_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text and its mentions, in order of their start.

    Raises:
        ValueError: a span that is empty, leaves the text, overlaps another, or has an empty label.
    """

    text: str
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        """Sorts the spans and checks them once, so that nobody else has to."""
        object.__setattr__(self, "spans", tuple(check_spans(self.spans, len(self.text))))
        if not all(span.label for span in self.spans):
            raise ValueError(f"a span has an empty label: {self.spans}")


class BadRow(NamedTuple):
    """A row that could not be taken: the line to look at (from 1), the rule's name, and what was found."""

    line: int
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}: {self.detail}"


class RowProblem(Exception):  # noqa: N818 - a finding about one row, caught where rows are collected
    """A rule that one row breaks; becomes a ``BadRow`` where its line is known."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def shown(value: object) -> str:
    """A value for a message: escaped, cut to a length that a terminal can take."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
