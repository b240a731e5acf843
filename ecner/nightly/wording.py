"""How the report writes figures."""

from typing import Any

import polars as pl

from ecner.nightly.figures import Scope
from ecner.nightly.periods import Period

Row = dict[str, Any]


def number(value: float | None) -> str:
    """A figure with a digit behind the point, where it has any."""
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def share(value: float | None) -> str:
    """Of a hundred."""
    return "" if value is None else f"{value:.1%}"


def when(period: Period, scope: Scope) -> str:
    """A week or month by its days, and how far it has been read."""
    until = f", read to {scope.last}" if scope.last < period.last else ""
    return f"{period.kind} {period.start} to {period.last}{until}"


def corrected(row: Row) -> str:
    """The corrected count with its interval, or what was counted where it cannot be corrected."""
    if row["corrected_count"] is None:
        return number(row["mention_count"])
    return f"{row['corrected_count']:,.1f} [{row['corrected_lower']:,.1f}, {row['corrected_upper']:,.1f}]"


COUNTED = ("corrected [90%]", "counted", "sum of probabilities", "reviews", "texts", "clusters")


def counted(row: Row) -> tuple[str, ...]:
    """Cells under the head COUNTED, of a row of corrected_counts or type_counts."""
    names = ("mention_count", "probability_mass", "review_count", "unique_text_count", "cluster_count")
    return corrected(row), *(number(row[name]) for name in names)


def rested_on(rows: pl.DataFrame) -> str:
    """The labelled data sets that corrected counts are by."""
    data = ", ".join(sorted({*rows["evaluated_on"].drop_nulls()})) or "no data set, so that nothing could be corrected"
    return f"Precision and recall on: {data}."


def times(row: Row) -> str:
    """By how much more was written, with its interval."""
    told = interval(row["ratio_lower"], row["ratio_upper"])
    return f"from none, {told} times" if row["ratio"] is None else f"{row['ratio']:.2f} times [{told}]"


def interval(lower: float | None, upper: float | None) -> str:
    """From where to where; it may have no upper end."""
    if upper is None:
        return "" if lower is None else f"over {lower:.2f}"
    return f"{lower or 0:.2f} to {upper:.2f}"
