# ruff: noqa: S608 - dates and our own names of types are all that is put into queries
"""The figures of the report: what the views say of the days that it is of. Nothing is counted here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from ecner.config import Address
from ecner.errors import UsageError
from ecner.nightly.periods import WEEK, Period
from ecner.storage.query import open_queries

TYPES: Mapping[str, str] = {"brand": "brands", "product": "products", "model_number": "model numbers"}
_TOLD = "entity_type in ({})".format(", ".join(f"'{entity_type}'" for entity_type in TYPES))
_CATEGORIES, _BRANDS = 10, 5  # of each
_DAYS = 56  # that a report is of, up to the last one read, where no first day was asked for
_SETTLED = 6  # days: a week or month that began as long before the last day has a week in it
Ask = Callable[[str], pl.DataFrame]


@dataclass(frozen=True)
class Scope:
    """What a report is of: the first and last day read; the week and the month that entities are told of."""

    first: date
    last: date
    week: Period
    month: Period


@dataclass(frozen=True)
class Figures:
    """Rows of views, by the name of the view; trends and others are of corrected_counts, judged of movements."""

    scope: Scope | None  # none where no review was read
    rows: Mapping[str, pl.DataFrame]

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.rows[name]

    def of_type(self, name: str, entity_type: str) -> pl.DataFrame:
        """The rows of an entity type."""
        return self.rows[name].filter(pl.col("entity_type") == entity_type)


def read_figures(address: Address, first: date | None, last: date | None) -> Figures:
    """The figures of the reviews of some days, by one state of the warehouse.

    Args:
        address: of the warehouse.
        first: the first day, inclusive; if not given, that of the eight weeks up to the last one.
        last: the last day, inclusive; if not given, the last one read.

    Raises:
        UsageError: there is no such warehouse, or it is older than its views.
        RunError: it cannot be reached, or is damaged.
    """
    with open_queries(*address) as ask_any:
        ask = _explained(ask_any)
        scope = _scope(ask, first, last)
        queries = (_of_days(scope) | _of_entities(scope) if scope else {}) | _OF_RUNS
        return Figures(scope, {name: ask(query) for name, query in queries.items()})


def _explained(ask: Ask) -> Ask:
    def explained(query: str) -> pl.DataFrame:
        try:
            return ask(query)
        except UsageError as error:
            raise UsageError(
                "the warehouse has not all that the report is made of, as if an earlier version had made it: ecner "
                f"extract brings it up to date ({error})"
            ) from error

    return explained


def _scope(ask: Ask, first: date | None, last: date | None) -> Scope | None:
    newest = _day(ask, f"review_date <= '{last or date.max}' order by review_date desc")
    if newest is None or (first and newest < first):
        return None
    since = first or _earlier(newest, _DAYS - 1)
    oldest = _day(ask, f"review_date >= '{since}' order by review_date") or newest
    settled = _earlier(newest, _SETTLED)
    week = f"'{max(oldest, _earlier(settled, _SETTLED))}' and '{settled}'"
    # where no day of the week before was read, the last one has to do
    told = _day(ask, f"review_date between {week} order by review_date desc") or newest
    return Scope(oldest, newest, *Period.of(told))


def _day(ask: Ask, which: str) -> date | None:
    """Of the table, by its index: the view would count all days for it."""
    found = ask(f"select review_date from review_coverage where {which} limit 1")["review_date"]
    return None if found.is_empty() else found[0]


def _earlier(day: date, days: int) -> date:
    return date.fromordinal(max(day.toordinal() - days, date.min.toordinal()))


_OF_RUNS: dict[str, str] = {
    "run_history": "select * from run_history order by started_at desc limit 20",
    "rejections": "select * from rejections order by started_at desc, review_count desc, reason limit 50",
    "drift": "select * from drift where drifted = 1 order by finished_at desc, entity_type, metric limit 20",
    "model_quality": """
        select * from model_quality where status = 'champion'
        and metric in ('strict_precision', 'strict_recall', 'strict_f1') order by dataset, entity_type, metric
    """,
}


def _of_days(scope: Scope) -> dict[str, str]:
    return {
        "coverage_periods": f"select * from coverage_periods where {_either(scope)} order by period",
        "coverage_daily": f"""
            select * from coverage_daily where day between '{scope.first}' and '{scope.last}' order by day desc limit 92
        """,
        "duplicate_clusters": f"""
            select * from duplicate_clusters where last_date between '{scope.first}' and '{scope.last}'
            order by review_count desc, text_count desc, cluster_id limit 20
        """,
        "type_counts": f"select * from type_counts where {_in(scope.month)} order by mention_count desc, entity_type",
        "count_agreement": f"select * from count_agreement where {_in(scope.month)} order by entity_type",
    }


def _of_entities(scope: Scope) -> dict[str, str]:
    """Each says how much of it there is at most: the page has to stay small."""
    most = "coalesce(corrected_count, mention_count) desc, mention_count desc, canonical"
    surest = "coalesce(q_value, 2), coalesce(p_value, 2), canonical"
    widest = "cluster_count desc, review_count desc, canonical"
    moved = f"{_either(scope)} and {_TOLD}"
    counted = _ranked("corrected_counts", f"{_in(scope.month)} and {_TOLD}", "entity_type", most)
    others = _ranked("corrected_counts", f"{_in(scope.month)} and not {_TOLD}", "entity_type", most)
    weeks = f"between '{Period.of(scope.first)[0].start}' and '{scope.last}'"
    new = f"first_date between '{max(scope.first, scope.week.start)}' and '{scope.last}' and {_TOLD}"
    return {
        "corrected_counts": f"{counted} where place <= 50 order by entity_type, place",
        "others": f"{others} where place <= 20 order by entity_type, place limit 200",
        "trends": f"""
            select c.* from corrected_counts as c join ({counted} where place <= 5) as t
            on t.entity_type = c.entity_type and t.canonical = c.canonical
            where c.period = '{WEEK}' and c.period_start {weeks} order by c.entity_type, t.place, c.period_start
        """,
        "movements": f"""
            {_ranked("movements", moved, "period, entity_type", surest)} where place <= 30
            order by coalesce(q_value, 2), coalesce(p_value, 2), period, entity_type, canonical
        """,
        "judged": f"""
            select period, period_start, entity_type, movement, count(*) as entity_count from movements where {moved}
            group by period, period_start, entity_type, movement order by period, entity_type, movement
        """,
        "new_entities": f"""
            {_ranked("new_entities", new, "entity_type", widest)} where place <= 30 order by entity_type, place
        """,
        "co_mentions": f"""
            select * from co_mentions where {_in(scope.month)}
            order by cluster_count desc, lift_lower desc, brand, other_type, other limit 100
        """,
        "share_of_voice": _of_categories(scope.month),
    }


def _of_categories(month: Period) -> str:
    """The brands most written about in the categories with most clusters."""
    place = "row_number() over (partition by category order by cluster_count desc, brand) as place"
    whole = "sum(cluster_count) over (partition by category) as whole"
    ranked = f"select *, {place}, {whole} from share_of_voice where month_start = '{month.start}'"
    return f"""
        select * from (
            select *, dense_rank() over (order by whole desc, category) as category_place from ({ranked}) as ranked
        ) as counted
        where category_place <= {_CATEGORIES} and place <= {_BRANDS} order by category_place, place
    """


def _ranked(view: str, where: str, per: str, order: str) -> str:
    """Rows with their place, and of how many."""
    place = f"row_number() over (partition by {per} order by {order}) as place"
    places = f"count(*) over (partition by {per}) as places"
    return f"select * from (select *, {place}, {places} from {view} where {where}) as ranked"


def _in(period: Period) -> str:
    return f"(period = '{period.kind}' and period_start = '{period.start}')"


def _either(scope: Scope) -> str:
    return f"({_in(scope.week)} or {_in(scope.month)})"
