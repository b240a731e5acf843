"""What the report says of reviews: how many there are, day by day, and the most of what they say in short."""

from collections.abc import Iterator, Sequence

import polars as pl

from ecner.nightly import pictures
from ecner.nightly.figures import TYPES, Figures, Scope
from ecner.nightly.periods import MONTH, WEEK, Period
from ecner.nightly.wording import Row, corrected, number, times
from ecner.pages import Block, Picture, Section, Table


def in_short(figures: Figures, scope: Scope) -> Section:
    """The report's beginning."""
    return Section("In short", [_headlines(figures, scope), _about(scope)])


def what_was_read(figures: Figures, scope: Scope) -> Section:
    """Days and their reviews."""
    return Section("What was read", list(_read(figures, scope)))


def _about(scope: Scope) -> str:
    return (
        f"Of {scope.first} to {scope.last}, the days read of those asked for. Weeks and months are whole ones, with "
        "their days before and after these: the latest that began at least a week before the last day. Each figure is "
        "from the view that it names; ecner query --describe VIEW says what that holds."
    )


def _headlines(figures: Figures, scope: Scope) -> Table:
    coverage = {row["period"]: row for row in figures["coverage_periods"].to_dicts()}
    rows = [_read_in(period, coverage[period.kind]) for period in (scope.month, scope.week) if period.kind in coverage]
    for entity_type, plural in TYPES.items():
        top = figures.of_type("corrected_counts", entity_type).to_dicts()[:1]
        rows += [
            (f"most mentioned of {plural}", row["canonical"], f"{corrected(row)} mentions, {scope.month.kind}")
            for row in top
        ]
    for kind in (WEEK, MONTH):
        judged = figures["judged"].filter(pl.col("period") == kind)
        if not judged.is_empty():
            counts = dict(judged.group_by("movement").agg(pl.col("entity_count").sum()).iter_rows())
            told = f"falls: {counts.get('fall', 0):,}; of {sum(counts.values()):,} names, against the {kind} before"
            rows.append((f"rises, {kind}", f"{counts.get('rise', 0):,}", told))
    rises = figures["movements"].filter(pl.col("movement") == "rise").to_dicts()[:1]
    rows += [("surest rise", row["canonical"], f"{times(row)}, {row['period']}") for row in rises]
    new = figures["new_entities"].group_by("entity_type").agg(pl.col("places").first())
    if not new.is_empty():
        rows.append(("new names", f"{new['places'].sum():,}", f"since {max(scope.first, scope.week.start)}"))
    views = "corrected_counts, movements, new_entities"
    return Table((), rows, f"Views coverage_periods, {views}. Brackets hold 90% intervals.", "tiles")


def _read_in(period: Period, row: Row) -> Sequence[str]:
    detail = f"{row['unique_text_count']:,} different texts, {row['cluster_count']:,} with near copies counted once"
    return f"reviews, {period.kind} of {period.start}", f"{row['review_count']:,}", detail


def _read(figures: Figures, scope: Scope) -> Iterator[Block]:
    rows = figures["coverage_daily"]
    note = f"Days from {rows['day'][-1]} to {scope.last}. View coverage_daily."
    yield Picture(pictures.days(rows), "Reviews, day by day", note)
    cells = [
        (
            str(row["day"]),
            *(number(row[n]) for n in ("review_count", "unique_text_count", "cluster_count", "mention_count")),
            f"{row['mentioning_share']:.0%}",
            "" if row["mean_rating"] is None else f"{row['mean_rating']:.2f}",
        )
        for row in rows.to_dicts()
    ]
    head = ("day", "reviews", "texts", "clusters", "mentions", "with a mention", "mean rating")
    yield Table(head, cells, f"{note} By the day that a review was written; at most the last 92.", "long")
