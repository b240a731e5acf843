"""What the report says of runs: what they turned away, how good the model is that read, how long they took."""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from ecner.nightly.figures import Figures
from ecner.nightly.wording import number, share
from ecner.pages import Block, Section, Table

_METRICS = ("strict_precision", "strict_recall", "strict_f1")
_LABELLED = (
    "Strict: right type and both ends, on labelled texts. The intervals of this page rest on precision and recall on "
    "one of these sets; how far today's reviews are like it, no figure here can say."
)
_AGREEMENT = (
    "Two estimates of what was really mentioned: corrected by precision and recall, and the sum of probabilities, "
    "which knows nothing of mentions that were missed. Inside: names whose sum lies in the corrected interval."
)


def run_sections(figures: Figures) -> Iterator[Section]:
    """The report's end."""
    yield Section("Rejected", list(_rejected(figures)))
    yield Section("The model", list(_model(figures)))
    yield Section("Runs", list(_runs(figures)))


def _rejected(figures: Figures) -> Iterator[Block]:
    rows = figures["rejections"]
    if rows.is_empty():
        yield "No run has turned a review away (view rejections)."
        return
    cells = [
        (_time(row["started_at"]), row["reason"], number(row["review_count"]), share(row["rejected_share"]))
        for row in rows.to_dicts()
    ]
    note = "The last runs, whatever days they read. View rejections. README lists what each reason means."
    yield Table(("run of (UTC)", "reason", "rows", "of all rows"), cells, note, "long")


def _model(figures: Figures) -> Iterator[Block]:
    rows = figures["model_quality"]
    if rows.is_empty():
        yield "The champion has no recorded evaluation (view model_quality)."
    else:
        yield _quality(rows)
    if figures.scope and not figures["count_agreement"].is_empty():
        yield _agreement(figures["count_agreement"])
    yield from _drift(figures["drift"])


def _quality(rows: pl.DataFrame) -> Table:
    """A line a labelled set and type, with what the view has a row of for each metric."""
    of = ["version", "dataset", "entity_type"]
    wide = rows.pivot("metric", index=of, values=["value", "support"], maintain_order=True)
    cells = [
        (
            *(row[name] for name in of[1:]),
            *("" if (value := row.get(f"value_{name}")) is None else f"{value:.3f}" for name in _METRICS),
            number(row.get(f"support_{_METRICS[1]}")),
        )
        for row in wide.to_dicts()
    ]
    head = ("labelled set", "type", "precision", "recall", "F1", "gold mentions")
    return Table(head, cells, f"The champion, {rows['version'][0]}. View model_quality. {_LABELLED}", "long")


def _agreement(rows: pl.DataFrame) -> Table:
    of = ("entity_count", "mention_count", "corrected_count", "probability_mass")
    cells = [
        (
            row["entity_type"],
            *(number(row[name]) for name in of),
            f"{row['mass_ratio']:.2f}",
            share(row["inside_share"]),
        )
        for row in rows.to_dicts()
    ]
    head = ("type", "names", "counted", "corrected", "sum of probabilities", "sum / corrected", "inside")
    period = f"{rows['period'][0].capitalize()} of {rows['period_start'][0]}"
    return Table(head, cells, f"{period}. View count_agreement. {_AGREEMENT}")


def _drift(rows: pl.DataFrame) -> Iterator[Block]:
    if rows.is_empty():
        yield "No run's figures have drifted from those of the runs before (view drift)."
        return
    figures = ("value", "baseline", "change_ratio")
    cells = [
        (
            _time(row["finished_at"]),
            *(row[name] for name in ("entity_type", "metric")),
            *("" if row[name] is None else f"{row[name]:.4g}" for name in figures),
        )
        for row in rows.to_dicts()
    ]
    note = "The last figures that drifted from those of the runs before. View drift. It may be market, source or model."
    yield Table(("run of (UTC)", "type", "figure", "value", "before", "change"), cells, note, "long")


def _runs(figures: Figures) -> Iterator[Block]:
    rows = figures["run_history"]
    if rows.is_empty():
        yield "No run yet (view run_history)."
        return
    cells = [
        (
            _time(row["started_at"]),
            _seconds(row["started_at"], row["finished_at"]),
            row["status"],
            number(row["reviews_in"]),
            share(row["rejected_share"]),
            number(row["texts_inferred"]),
            share(row["cached_share"]),
            number(row["mentions_out"]),
            row["model_version"] or "",
            row["source"],
            row["error"] or "",
        )
        for row in rows.to_dicts()
    ]
    head = (
        "started (UTC)",
        "seconds",
        "status",
        "reviews",
        "rejected",
        "texts read",
        "known before",
        "mentions",
        "model",
        "source",
        "error",
    )
    note = "The last 20 runs, whatever days they read. View run_history; seconds: finished_at less started_at."
    yield Table(head, cells, note, "long")


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _seconds(began: datetime, ended: datetime | None) -> str:
    return "" if ended is None else f"{(ended - began).total_seconds():,.0f}"
