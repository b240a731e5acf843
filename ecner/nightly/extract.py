"""Extract a shard: read each of its texts once, whole, and leave what was found as one Parquet file."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecner.config import LakeSettings, ModelSettings
from ecner.errors import ModelError
from ecner.inference.reader import Reader, Readings
from ecner.lake import Lake
from ecner.model.checkpoint import Checkpoint, fingerprint
from ecner.model.vocabulary import UNKNOWN, Vocabulary, code_points
from ecner.nightly.scope import ReadingModel
from ecner.registry import folder_of

_TEXTS_AT_ONCE = 8_192
SPAN = pl.Struct(
    {
        "label": pl.String(),
        "start_char": pl.Int64(),
        "end_char": pl.Int64(),
        "confidence": pl.Float64(),
        "surface": pl.String(),
        "left_context": pl.String(),
        "right_context": pl.String(),
    }
)
_CONTEXT = 12  # characters to either side of a mention that are kept, for people who judge it
READINGS = pl.Schema(
    {
        "text_hash": pl.String(),
        "chars": pl.Int64(),
        "chars_read": pl.Int64(),
        "windows": pl.Int64(),
        "unknown_chars": pl.Int64(),
        "spans": pl.List(SPAN),
    }
)


@dataclass(frozen=True)
class Extracted:
    """One shard's reading: its name in the lake, how much was read, and where the seconds went."""

    path: str
    texts: int
    chars: int
    seconds: Mapping[str, float]  # total, forward, decode; all 0 where an earlier run's work was taken up


def extract_shard(
    shard: str, model: ReadingModel, settings: ModelSettings, *, lake: LakeSettings, batch_chars: int | None
) -> Extracted:
    """Reads a shard's texts, unless a run that ended early had read this very set already.

    Raises:
        ModelError: the model cannot be loaded, or does not read here as it does where the run was planned.
        RunError: the lake failed.
    """
    began = time.perf_counter()
    files = Lake.open(lake)
    texts = files.read(shard)
    digest = hashlib.sha256("".join(texts["text_hash"].to_list()).encode()).hexdigest()[:32]
    target = f"readings/{model.fingerprint}/{digest}.parquet"
    chars = int(texts["text"].str.len_chars().sum())
    if files.exists(target):
        return Extracted(target, len(texts), chars, {"total": 0.0, "forward": 0.0, "decode": 0.0})
    reader = _reader(model, settings.device, settings.dtype, settings.decoder, batch_chars, lake)
    before = dict(reader.seconds)
    files.write(target, pl.concat([_read(reader, part) for part in texts.iter_slices(_TEXTS_AT_ONCE)]))
    spent = {name: reader.seconds[name] - before[name] for name in before}
    return Extracted(target, len(texts), chars, {"total": time.perf_counter() - began} | spent)


@lru_cache(maxsize=1)
def _reader(
    model: ReadingModel, device: str, dtype: str, decoder: str, batch_chars: int | None, lake: LakeSettings
) -> Reader:
    """The one model of this process, which may be on another machine than the one that the run was planned on."""
    folder = folder_of(model.uri, lake)
    reader = Reader(Checkpoint.load(folder), device=device, dtype=dtype, decoder=decoder, max_batch_chars=batch_chars)  # type: ignore[arg-type]
    found = fingerprint(folder, decoder=decoder, dtype=str(reader.dtype))
    if found != model.fingerprint:
        raise ModelError(
            f"{model.version} in {folder} would read as {found} here, by {reader.dtype}: expected {model.fingerprint}, "
            "as the run was planned; install the same ecner on all workers, and set model.dtype where devices differ"
        )
    return reader


def _read(reader: Reader, texts: pl.DataFrame) -> pl.DataFrame:
    """Readings of some texts (schema READINGS), in their order."""
    given = texts["text"].to_list()
    readings = reader.read(given)
    spans = span_frame(readings, texts["text"], reader.tag_set.labels)
    nested = spans.group_by("row", maintain_order=True).agg(spans=pl.struct(SPAN.to_schema().keys()))
    return (
        texts.select(
            "text_hash",
            chars=pl.Series(readings.chars),
            chars_read=pl.Series(readings.chars),
            windows=pl.Series(readings.windows),
            unknown_chars=pl.Series(unknown_chars(reader.vocabulary, given, readings.chars)),
        )
        .with_row_index("row")
        .with_columns(pl.col("row").cast(pl.Int64))
        .join(nested, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("spans").fill_null(pl.lit([], pl.List(SPAN))))
        .select(pl.col(name).cast(dtype) for name, dtype in READINGS.items())
    )


def unknown_chars(vocabulary: Vocabulary, texts: Sequence[str], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many characters of each text the model takes for one and the same. *Shape:* lengths and result (N,)."""
    is_unknown = vocabulary.table[code_points("".join(texts))] == vocabulary.ids[UNKNOWN]
    text = np.repeat(np.arange(len(texts)), lengths)
    return np.bincount(text[is_unknown], minlength=len(texts))


def span_frame(readings: Readings, texts: pl.Series, labels: tuple[str, ...]) -> pl.DataFrame:
    """The mentions as a frame: row (of the text), and the columns of SPAN. A NUL of a context is written as a space."""
    text, start, end = pl.col("text"), pl.col("start_char"), pl.col("end_char")
    before = pl.max_horizontal(start - _CONTEXT, pl.lit(0))
    return (
        pl.DataFrame(
            {
                "row": readings.text,
                "label": pl.Series(labels, dtype=pl.String).gather(readings.label),
                "start_char": readings.start,
                "end_char": readings.end,
                "confidence": readings.confidence,
            }
        )
        .with_columns(text=texts.gather(readings.text))
        .with_columns(
            surface=text.str.slice(start, end - start),
            left_context=text.str.slice(before, start - before).str.replace_all("\0", " ", literal=True),
            right_context=text.str.slice(end, _CONTEXT).str.replace_all("\0", " ", literal=True),
        )
        .drop("text")
    )
