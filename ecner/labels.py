"""Entity spans and the tag sequences that stand for them, in the schemes BIO (IOB2) and BILOU."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

Scheme = Literal["BIO", "BILOU"]
OUTSIDE = "O"
_PREFIXES: dict[Scheme, str] = {"BIO": "BI", "BILOU": "BILU"}
_TAG = re.compile(r"([BILU])-(.+)", re.DOTALL)


class Span(NamedTuple):
    """A mention: ``text[start:end]`` with its label; offsets count Unicode code points, half-open."""

    start: int
    end: int
    label: str


class SpanTags(NamedTuple):
    """Ids of the tags that spell a span of one label: its first, inner and last character, and a lone one."""

    first: int
    inside: int
    last: int
    single: int


@dataclass(frozen=True)
class TagSet:
    """The tags of a model in the order of their ids. Nothing assumes that O is 0.

    Raises:
        ValueError: a tag that the scheme does not have, a tag twice, no O, or a label without all of its tags.
    """

    tags: tuple[str, ...]
    scheme: Scheme

    def __post_init__(self) -> None:
        """Checks that the tags are exactly O and the full set of prefixes of each label."""
        if self.scheme not in get_args(Scheme):
            raise ValueError(f"unknown tag scheme {self.scheme!r}: expected one of {', '.join(get_args(Scheme))}")
        expected = {OUTSIDE} | {f"{p}-{label}" for label in self.labels for p in _PREFIXES[self.scheme]}
        if set(self.tags) != expected or len(self.tags) != len(expected):
            raise ValueError(
                f"tags {list(self.tags)} are not a {self.scheme} set: expected each of {sorted(expected)} once"
            )

    @classmethod
    def from_labels(cls, labels: Iterable[str], scheme: Scheme = "BIO") -> "TagSet":
        """The tag set of some labels: O first, then each label's tags, labels in sorted order."""
        if scheme not in get_args(Scheme):
            raise ValueError(f"unknown tag scheme {scheme!r}: expected one of {', '.join(get_args(Scheme))}")
        return cls((OUTSIDE, *(f"{p}-{label}" for label in sorted(set(labels)) for p in _PREFIXES[scheme])), scheme)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order in which their first tag stands; a span's type id indexes it."""
        return tuple(dict.fromkeys(match[2] for tag in self.tags if (match := _TAG.fullmatch(tag))))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id of each tag."""
        return {tag: i for i, tag in enumerate(self.tags)}

    @cached_property
    def span_tags(self) -> tuple[SpanTags, ...]:
        """For each label, in the order of ``labels``, the ids of the tags of its spans."""
        first, inside, last, single = "BIIB" if self.scheme == "BIO" else "BILU"
        return tuple(
            SpanTags(*(self.ids[f"{prefix}-{label}"] for prefix in (first, inside, last, single)))
            for label in self.labels
        )

    @cached_property
    def legal_start(self) -> tuple[bool, ...]:
        """Whether a text may start with each tag."""
        return tuple(self._follows(OUTSIDE, tag) for tag in self.tags)

    @cached_property
    def legal_end(self) -> tuple[bool, ...]:
        """Whether a text may end with each tag."""
        return tuple(self._follows(tag, OUTSIDE) for tag in self.tags)

    @cached_property
    def legal_transitions(self) -> tuple[tuple[bool, ...], ...]:
        """``legal_transitions[i][j]``: whether tag j may follow tag i."""
        return tuple(tuple(self._follows(left, right) for right in self.tags) for left in self.tags)

    def encode(self, spans: Iterable[Span], length: int) -> list[int]:
        """Tag ids of a text of ``length`` characters.

        Raises:
            ValueError: a span that is empty, leaves the text, overlaps another, or has an unknown label.
        """
        tags = [self.ids[OUTSIDE]] * length
        for start, end, label in check_spans(spans, length):
            if label not in self.labels:
                raise ValueError(f"label {label!r} is not one of {', '.join(self.labels)}")
            first, inside, last, single = self.span_tags[self.labels.index(label)]
            tags[start:end] = [first, *[inside] * (end - start - 2), last] if end - start > 1 else [single]
        return tags

    def decode(self, tags: Sequence[int]) -> list[Span]:
        """Spans of a legal sequence of tag ids, in order of their start."""
        spans, start = [], 0
        for i, tag in enumerate(tags):
            if self.tags[tag][0] in "BU":
                start = i
            following = self.tags[tags[i + 1]] if i + 1 < len(tags) else OUTSIDE
            if self.tags[tag] != OUTSIDE and following[0] not in "IL":
                spans.append(Span(start, i + 1, self.tags[tag][2:]))
        return spans

    def _follows(self, left: str, right: str) -> bool:
        """Whether ``right`` may stand behind ``left``; the edges of a text count as O."""
        inside = right[0] in "IL"
        if self.scheme == "BIO":
            return not inside or left[1:] == right[1:]
        is_open = left[0] in "BI"
        return inside == is_open and (not inside or left[1:] == right[1:])


def check_spans(spans: Iterable[Span], length: int) -> list[Span]:
    """The spans in order of their start.

    Raises:
        ValueError: a span that is empty, leaves the text, or overlaps another.
    """
    ordered = sorted(spans)
    reached = 0
    for span in ordered:
        if not 0 <= span.start < span.end <= length:
            raise ValueError(f"span [{span.start}, {span.end}) does not lie in a text of {length} characters")
        if span.start < reached:
            raise ValueError(f"span [{span.start}, {span.end}) overlaps the one before it, which ends at {reached}")
        reached = span.end
    return ordered


def tag_label(tag: str) -> str | None:
    """Label of a tag such as ``B-HPPX``; None for O.

    Raises:
        ValueError: neither O nor a prefix, a hyphen and a label.
    """
    if tag == OUTSIDE:
        return None
    if match := _TAG.fullmatch(tag):
        return match[2]
    raise ValueError(f"tag {tag!r} is neither {OUTSIDE} nor one of B-, I-, L-, U- with a label")
