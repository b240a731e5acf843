"""What the report says of reviews: how many there are, day by day, and the most of what they say in short."""

from collections.abc import Iterator, Sequence

import polars as pl

from ecner.nightly import pictures
from ecner.nightly.figures import TYPES, Figures, Scope
from ecner.nightly.periods import MONTH, WEEK, Period
from ecner.nightly.wording import COUNTED, Row, corrected, counted, number, rested_on, times, when
from ecner.pages import Block, Picture, Section, Table

_TOTALS = (
    "Corrected: mentions times precision over recall of the model that read, with a 90% interval of the total; it "
    "holds where reviews are like the labelled texts. It is not the sum of the names' intervals: they share both "
    "figures."
)
_COPIES = (
    "Reviews with the same text, or nearly the same: templates, syndicated reviews, campaigns; that they are alike "
    "does not say why. Counted from a cluster's first review on, however long before these days; those with a review "
    "after them are left out."
)


def in_short(figures: Figures, scope: Scope) -> Section:
    """The report's beginning."""
    return Section("In short", [_headlines(figures, scope), *_totals(figures, scope), _about(scope)])


def what_was_read(figures: Figures, scope: Scope) -> Section:
    """Days and their reviews, and those that are copies."""
    return Section("What was read", [*_read(figures, scope), *_copies(figures, scope)])


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
        rows += [_total(row, plural, scope) for row in figures.of_type("type_counts", entity_type).to_dicts()]
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
    views = "type_counts, corrected_counts, movements, new_entities"
    return Table((), rows, f"Views coverage_periods, {views}. Brackets hold 90% intervals.", "tiles")


def _total(row: Row, plural: str, scope: Scope) -> Sequence[str]:
    """All mentions of a type."""
    what, found = f"mentions of {plural}, {scope.month.kind}", f"{row['mention_count']:,} counted"
    if row["corrected_count"] is None:
        return what, f"{row['mention_count']:,}", "counted; what the model misses is not known"
    lower, upper = (f"{row[f'corrected_{end}']:,.0f}" for end in ("lower", "upper"))
    return what, f"{row['corrected_count']:,.0f}", f"corrected [{lower}, {upper}]; {found}"


def _totals(figures: Figures, scope: Scope) -> Iterator[Block]:
    rows = figures["type_counts"]
    if rows.is_empty():
        yield f"Nothing was mentioned in the {when(scope.month, scope)} (view type_counts)."
        return
    cells = [(row["entity_type"], *counted(row)) for row in rows.to_dicts()]
    note = f"All mentions of a type, {when(scope.month, scope)}. View type_counts. {rested_on(rows)}"
    yield Table(("type", *COUNTED), cells, f"{note} {_TOTALS}", "long")


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


def _copies(figures: Figures, scope: Scope) -> Iterator[Block]:
    rows, days = figures["duplicate_clusters"], f"{scope.first} to {scope.last}"
    if rows.is_empty():
        yield f"No cluster of copies has its last review from {days} (view duplicate_clusters)."
        return
    counts = ("review_count", "text_count", "product_count")
    cells = [
        (row["cluster_id"], *(number(row[name]) for name in counts), str(row["first_date"]), str(row["last_date"]))
        for row in rows.to_dicts()
    ]
    note = f"The {len(rows)} largest clusters with their last review from {days}. View duplicate_clusters. {_COPIES}"
    yield Table(("cluster", "reviews", "texts", "products", "first day", "last day"), cells, note, "long")
