"""Mentions of texts as JSON objects, for programs."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ecner.inference.reader import Reader
from ecner.labels import Span

_TEXTS_AT_ONCE = 1_024
_SURROGATE = re.compile("[\ud800-\udfff]")


def predictions(
    reader: Reader, texts: Sequence[str], types: Mapping[str, str], *, top_k: int | None = None
) -> Iterator[str]:
    """A JSON line for each text, in order: its mentions and, on request, its best tag paths."""
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[first : first + _TEXTS_AT_ONCE]
        readings = reader.read(part)
        confidences = iter(readings.confidence.tolist())
        paths = reader.best_paths(part, top_k) if top_k else None
        for i, (text, spans) in enumerate(zip(part, readings.spans(reader.tag_set.labels), strict=True)):
            mentions = [_mention(text, span, types) | {"confidence": next(confidences)} for span in spans]
            row: dict[str, Any] = {"text": text, "mentions": mentions}
            if paths is not None:
                row["paths"] = [
                    {
                        "score": path.probability,
                        "mentions": [_mention(text, span, types) for span in path.spans],
                    }
                    for path in paths[i]
                ]
            yield _line(row)


def _mention(text: str, span: Span, types: Mapping[str, str]) -> dict[str, Any]:
    return {
        "text": text[span.start : span.end],
        "start": span.start,
        "end": span.end,
        "type": types.get(span.label, span.label),
        "label": span.label,
    }


def _line(row: Mapping[str, Any]) -> str:
    """JSON that is UTF-8 whatever the text holds: what UTF-8 refuses is escaped."""
    readable = json.dumps(row, ensure_ascii=False)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", readable) + "\n"
