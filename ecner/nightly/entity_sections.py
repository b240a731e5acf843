"""What the report says of entities: which are written about most, which rise, which are new, which go together."""

from collections.abc import Iterator
from datetime import date

import polars as pl

from ecner.nightly import pictures
from ecner.nightly.figures import TYPES, Figures, Scope
from ecner.nightly.wording import COUNTED, counted, interval, number, rested_on, share, when
from ecner.pages import Block, Picture, Section, Table

_PICTURED = 10  # lines
_CORRECTED = (
    "Corrected: mentions times precision over recall of the model that read, with a 90% interval; names that the model "
    "always misses are not corrected for. Clusters: different texts, near copies counted once."
)
_MOVED = (
    "By clusters of texts as a share of those read, so that neither copies nor a busier week make a rise. Of rises and "
    "falls at most 5% (q) are expected to be chance; where another model took over, what the bridge gave is allowed."
)
_NEW = "In the first weeks of a warehouse everything is new, and another spelling is a new name until it is linked."
_TOGETHER = (
    "Lift: clusters with both, over what would be expected if the two had nothing to do with each other, with a 90% "
    "interval; wholly above 1, they belong together. In one review, however far apart."
)
_VOICES = (
    "Of the clusters of reviews of a category's products, each brand's share among all brands that they mention. A "
    "product's category is the product that most of its reviews' texts name; reviews without a product are left out."
)


def entity_sections(figures: Figures, scope: Scope) -> Iterator[Section]:
    """The report's middle."""
    for entity_type, plural in TYPES.items():
        yield Section(f"Top {plural}", list(_top(figures, scope, entity_type)))
    yield Section("Other types", list(_others(figures, scope)))
    yield Section("Rising and falling", list(_moved(figures, scope)))
    yield Section("New", list(_new(figures, scope)))
    yield Section("Written about together", list(_together(figures, scope)))
    yield Section("Share of voice", list(_voices(figures, scope)))


def _top(figures: Figures, scope: Scope, entity_type: str) -> Iterator[Block]:
    rows = figures.of_type("corrected_counts", entity_type)
    if rows.is_empty():
        yield f"None in the {when(scope.month, scope)} (view corrected_counts)."
        return
    plural = TYPES[entity_type]
    note = f"{when(scope.month, scope).capitalize()}. View corrected_counts."
    yield Picture(pictures.counts(rows.head(_PICTURED)), f"Mentions of {plural}, month", note)
    weeks = figures.of_type("trends", entity_type)
    if not weeks.is_empty():
        told = (
            f"Weeks of {scope.first} to {scope.last}, the five with most mentions in the month. View corrected_counts. "
            "Bands: 90% intervals. Dashed: another model took over. The first and last week may lack days."
        )
        yield Picture(pictures.trend(weeks, _breaks(weeks)), f"Mentions of {plural}, week by week", told)
    cells = [(row["canonical"], *counted(row)) for row in rows.to_dicts()]
    rest = f"The {len(rows)} of {rows['places'][0]:,} with most. {rested_on(rows)} {_CORRECTED}"
    yield Table(("name", *COUNTED), cells, f"{note} {rest}", "long")


def _others(figures: Figures, scope: Scope) -> Iterator[Block]:
    """Of misc and labels of one's own."""
    rows = figures["others"]
    if rows.is_empty():
        yield f"None in the {when(scope.month, scope)} (view corrected_counts)."
        return
    cells = [(row["canonical"], row["entity_type"], *counted(row)) for row in rows.to_dicts()]
    note = f"{when(scope.month, scope).capitalize()}. View corrected_counts: of each type the 20 with most."
    yield Table(("name", "type", *COUNTED), cells, f"{note} {rested_on(rows)} {_CORRECTED}", "long")


def _breaks(weeks: pl.DataFrame) -> list[date]:
    """Weeks that other models read than the one before."""
    by_week = weeks.group_by("period_start").agg(pl.col("model_version").unique().sort()).sort("period_start")
    changed = pl.col("model_version") != pl.col("model_version").shift(1)
    return by_week.filter(changed)["period_start"].to_list()


def _moved(figures: Figures, scope: Scope) -> Iterator[Block]:
    judged = figures["judged"]
    if judged.is_empty():
        yield "Nothing to compare: of the week and the month before, no review was read (view movements)."
        return
    rows = figures["movements"]
    moved = rows.filter(pl.col("movement").is_in(["rise", "fall"]))
    if moved.is_empty():
        yield "Nothing rose or fell by more than chance would (view movements)."
    for period in (scope.week, scope.month):
        for (entity_type,), part in moved.filter(pl.col("period") == period.kind).group_by(
            "entity_type", maintain_order=True
        ):
            note = f"{when(period, scope).capitalize()}. View movements, the surest first. Lines: 90% intervals."
            alt = f"Moved {TYPES[str(entity_type)]}, {period.kind}"
            yield Picture(pictures.ratios(part.head(_PICTURED)), alt, note)
    periods = f"{when(scope.week, scope).capitalize()}, and {when(scope.month, scope)}, each against the one before."
    yield _movements(rows, f"{periods} View movements: the surest 30 of a type and period. {_MOVED}")
    names = ("period", "entity_type", "movement")
    counts = [(*(row[name] for name in names), number(row["entity_count"])) for row in judged.to_dicts()]
    yield Table(
        ("period", "type", "movement", "names"), counts, f"{periods} View movements: all names that were compared."
    )


def _movements(rows: pl.DataFrame, note: str) -> Table:
    head = ("name", "type", "period", "movement", "before", "now", "times", "90% interval", "q", "texts", "reviews")
    cells = [
        (
            *(row[name] for name in ("canonical", "entity_type", "period", "movement")),
            *(number(row[name]) for name in ("previous_cluster_count", "cluster_count")),
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            interval(row["ratio_lower"], row["ratio_upper"]),
            "" if row["q_value"] is None else f"{row['q_value']:.3f}",
            *(number(row[name]) for name in ("unique_text_count", "review_count")),
        )
        for row in rows.to_dicts()
    ]
    return Table(head, cells, note, "long")


def _new(figures: Figures, scope: Scope) -> Iterator[Block]:
    rows = figures["new_entities"]
    since = f"Names first read from {max(scope.first, scope.week.start)} to {scope.last}"
    if rows.is_empty():
        yield f"{since}: none (view new_entities)."
        return
    of = ("canonical", "entity_type")
    cells = [
        (
            *(row[name] for name in of),
            str(row["first_date"]),
            *(number(row[name]) for name in ("cluster_count", "review_count")),
            row["first_context"] or "",
            row["first_review_id"] or "",
        )
        for row in rows.to_dicts()
    ]
    head = ("name", "type", "first day", "clusters", "reviews", "first mention", "first review")
    yield Table(head, cells, f"{since}. View new_entities: of each type the 30 in most clusters. {_NEW}", "long")


def _together(figures: Figures, scope: Scope) -> Iterator[Block]:
    rows = figures["co_mentions"]
    if rows.is_empty():
        yield f"No two in one review in the {when(scope.month, scope)} (view co_mentions)."
        return
    note = f"{when(scope.month, scope).capitalize()}. View co_mentions."
    for other in ("product", "model_number"):
        shown = rows.filter(pl.col("other_type") == other)
        if not shown.is_empty():
            yield Picture(pictures.pairs(shown), f"Brands with {TYPES[other]}", f"{note} Larger dots: more clusters.")
    cells = [
        (
            *(row[name] for name in ("brand", "other", "other_type")),
            *(number(row[name]) for name in ("cluster_count", "unique_text_count", "review_count")),
            f"{row['lift']:.1f} [{row['lift_lower']:.1f}, {row['lift_upper']:.1f}]",
        )
        for row in rows.to_dicts()
    ]
    head = ("brand", "with", "type", "clusters", "texts", "reviews", "lift [90%]")
    yield Table(head, cells, f"{note} The {len(rows)} pairs with most clusters. {_TOGETHER}", "long")


def _voices(figures: Figures, scope: Scope) -> Iterator[Block]:
    rows = figures["share_of_voice"]
    if rows.is_empty():
        yield f"No product with a category and a brand in the {when(scope.month, scope)} (view share_of_voice)."
        return
    of = ("cluster_count", "unique_text_count", "review_count")
    cells = [
        (row["category"], row["brand"], share(row["share_of_voice"]), *(number(row[name]) for name in of))
        for row in rows.to_dicts()
    ]
    note = (
        f"{when(scope.month, scope).capitalize()}. View share_of_voice: of the ten largest categories five brands each."
    )
    head = ("category", "brand", "share", "clusters", "texts", "reviews")
    yield Table(head, cells, f"{note} {_VOICES}", "long")
