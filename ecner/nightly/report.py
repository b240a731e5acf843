"""What a night did, for people: found, rejected, how fast, what moved; as text for a terminal and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import polars as pl

from ecner.config import Settings
from ecner.nightly.drift import METRICS
from ecner.nightly.extract import Extracted
from ecner.nightly.figures import TYPES
from ecner.nightly.plan import Plan
from ecner.pages import markdown_cell, printable
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse

_FOUND = """
select entity_type, canonical, mentions, reviews
from (
    select entity_type, canonical,
        cast(sum(mention_count) as bigint) as mentions, cast(sum(review_count) as bigint) as reviews,
        row_number() over (partition by entity_type order by sum(review_count) desc, canonical) as place
    from entity_daily group by entity_type, canonical
) as found
where place <= 10 order by entity_type, place
"""
_PERIOD = "select min(review_date) as first, max(review_date) as last, count(*) as reviews from review_coverage"
_COMPARED = "select max(period_start) as week from entity_movements where period = 'week'"
_MOVED = """
select entity_type, canonical, movement, previous_review_count, review_count from movements
where period = 'week' and period_start = (select max(period_start) from entity_movements where period = 'week')
    and movement in ('rise', 'fall') and entity_type in ('brand', 'product', 'model_number')
order by q_value, canonical, entity_type limit 5
"""

_DRIFT_ORDER = ("entity_type", "metric")
_SHOWN_FROM = 0.05  # seconds


@dataclass(frozen=True)
class Report:
    """The figures of one run, and of the warehouse after it."""

    plan: Plan
    mentions: int
    rejections: Mapping[str, int]
    period: str
    reviews: int
    top: Mapping[str, pl.DataFrame]  # per entity type: canonical, mentions, reviews
    movers: pl.DataFrame | None  # what moved by more than chance; none where no week could be compared
    drift: pl.DataFrame  # the figures that have drifted, rows of drift_metrics
    chars: int
    seconds: Mapping[str, float]
    warehouse: str
    steps: Mapping[str, float]  # seconds by step, but for the reading
    page: str = ""  # where the page that people read is, once it has been made

    @property
    def speed(self) -> str:
        """Characters a second of the reading, and where its time went."""
        total = self.seconds["total"]
        if not total:
            return "no text had to be read"
        shares = {name: self.seconds[name] / total for name in ("forward", "decode")}
        return (
            f"{self.chars:,} characters in {total:.1f} s, {self.chars / total:,.0f} a second: "
            f"{shares['forward']:.0%} in the model's forward pass, {shares['decode']:.0%} in decoding"
        )

    @property
    def facts(self) -> Mapping[str, str]:
        """The run in a few lines."""
        plan = self.plan
        reasons = ", ".join(f"{count:,} {rule}" for rule, count in self.rejections.items())
        rejected = f"{plan.reviews_rejected:,} rejected" + (f" ({reasons})" if reasons else "")
        deleted = f", {plan.reviews_deleted:,} deleted" if plan.reviews_deleted else ""
        return {
            "run": plan.run_id,
            "model": plan.model.version,
            "reviews": f"{plan.reviews_in:,} in, {rejected}{deleted}",
            "texts": f"{plan.texts_unique:,} different, {plan.texts_cached:,} known, {plan.texts_inferred:,} read",
            "reading": self.speed,
            "mentions": f"{self.mentions:,} published by this run",
            "steps": ", ".join(
                f"{name} {seconds:.1f} s" for name, seconds in self.steps.items() if seconds >= _SHOWN_FROM
            ),
            "tables": self.warehouse,
            **({"page": self.page} if self.page else {}),
        }

    @property
    def drifts(self) -> Sequence[str]:
        """What has drifted, a line a figure."""
        return [_told(figure) for figure in self.drift.to_dicts()]

    def to_text(self) -> str:
        """Plain text for a terminal or a log."""
        lines = [f"{name:<11}{value}" for name, value in self.facts.items()]
        lines += ["", f"{self.reviews:,} reviews, {self.period}"]
        for entity_type, plural in TYPES.items():
            lines += ["", f"top {plural} (reviews)", *_columns(self.top[entity_type])]
        if self.movers is not None:
            lines += ["", "moved by more than chance against the week before (reviews)", *_moved(self.movers)]
        if self.drifts:
            lines += ["", "drifted from the runs before", *(f"  {printable(told)}" for told in self.drifts)]
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Markdown for an artifact."""
        lines = [
            "| | |",
            "|---|---|",
            *(f"| {name} | {markdown_cell(value)} |" for name, value in self.facts.items()),
        ]
        lines += ["", f"{self.reviews:,} reviews, {self.period}", ""]
        lines += ["| place | " + " | ".join(TYPES.values()) + " |", "|---|" + "---|" * len(TYPES)]
        for place in range(max(map(len, self.top.values()))):
            names = (_entry(self.top[entity_type], place) for entity_type in TYPES)
            lines.append(f"| {place + 1} | {' | '.join(names)} |")
        if self.drifts:
            lines += ["", "Drifted from the runs before:", "", *(f"- {markdown_cell(told)}" for told in self.drifts)]
        return "\n".join(lines)

    def to_rows(self) -> list[dict[str, object]]:
        """The top entities as rows of a table."""
        return [
            {"type": entity_type, "place": place, **row}
            for entity_type, frame in self.top.items()
            for place, row in enumerate(frame.to_dicts(), 1)
        ]


def make_report(
    settings: Settings,
    warehouse: Warehouse,
    plan: Plan,
    extracted: Sequence[Extracted],
    steps: Mapping[str, float] = MappingProxyType({}),
) -> Report:
    """Looks at the warehouse once more, after the commit, and sums the run up."""
    address = settings.warehouse_at
    with warehouse.connect() as reader:
        run = reader.read("extraction_runs", where={"run_id": plan.run_id}, columns=["mentions_out"])
        drift = reader.read("drift_metrics", where={"run_id": plan.run_id, "drifted": 1}, order_by=_DRIFT_ORDER)
        rejected = reader.read("rejected_reviews", where={"run_id": plan.run_id}, columns=["reason"])
    counts = rejected.group_by("reason").len().sort("reason")
    period = run_query(*address, _PERIOD).row(0, named=True)
    found = run_query(*address, _FOUND)
    return Report(
        plan=plan,
        mentions=run["mentions_out"][0],
        rejections=dict(counts.iter_rows()),
        period=f"{period['first']} to {period['last']}" if period["reviews"] else "none published yet",
        reviews=period["reviews"],
        top={
            entity_type: found.filter(pl.col("entity_type") == entity_type).drop("entity_type") for entity_type in TYPES
        },
        movers=run_query(*address, _MOVED) if run_query(*address, _COMPARED).item() else None,
        drift=drift,
        chars=sum(part.chars for part in extracted if part.seconds["total"]),
        seconds={name: sum(part.seconds[name] for part in extracted) for name in ("total", "forward", "decode")},
        warehouse=warehouse.location,
        steps={**(plan.seconds or {}), **steps},
    )


def _told(figure: Mapping[str, Any]) -> str:
    """A figure that has drifted, in words."""
    value, baseline, of = figure["value"], figure["baseline"], figure["entity_type"]
    change = f"{value / baseline - 1:+.0%}" if baseline else "up from 0"
    return (
        f"{of}: {METRICS[figure['metric']]} {value:.4g}, {baseline:.4g} on average of {figure['baseline_runs']} "
        f"runs before ({change}; allowed is {figure['allowed']:.0%})"
    )


def _columns(top: pl.DataFrame) -> Iterator[str]:
    """Five entities a line, each with the number of its reviews."""
    entries = [f"{printable(row['canonical'])} {row['reviews']:,}" for row in top.to_dicts()]
    yield from (f"  {'   '.join(entries[i : i + 5])}" for i in range(0, len(entries), 5))
    if not entries:
        yield "  none"


def _moved(movers: pl.DataFrame) -> Iterator[str]:
    for row in movers.to_dicts():
        yield (
            f"  {printable(row['canonical']):<20}{row['previous_review_count']:>6,} -> {row['review_count']:<6,} "
            f"{row['movement']}"
        )
    if movers.is_empty():
        yield "  nothing"


def _entry(top: pl.DataFrame, place: int) -> str:
    row = top.row(place, named=True) if place < len(top) else None
    return f"{markdown_cell(row['canonical'])} ({row['reviews']:,})" if row else ""
