"""Pictures of the report, as SVG text: narrow enough for a telephone; elsewhere two or three stand side by side."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import altair as alt
import polars as pl

from ecner.drawing import COLOURS, INK, data, name_axis, short, to_svg

_PLOT = 225  # pixels beside names: about 350 with them
_WIDE_PLOT, _HEIGHT = 300, 170
_NAME = 9  # Chinese characters
_LINE = alt.Step(20)
_PAIRED = 10  # names on a side
_FAR = 10.0  # times as much, or as little: what is farther stands at the edge
_GREY, _BLUE, _BROWN, _GREEN = COLOURS[:4]
_MOVEMENTS = {"rise": _GREEN, "fall": _BROWN, "steady": _GREY, "not judged": "#8a8a8a80"}


def counts(rows: pl.DataFrame) -> str:
    """Mentions counted, and corrected with their interval; a name a line, in the order given.

    Args:
        rows: canonical, mention_count, corrected_count, corrected_lower, corrected_upper.
    """
    corrected, counted = "corrected, 90% interval", "counted"
    colours = {counted: _GREY, corrected: _BLUE}
    names, values = _named(rows)
    base = alt.Chart(data(values)).encode(y=_lines(names), color=_coloured("kind", colours))
    known = _as(base.transform_filter("isValid(datum.corrected_count)"), corrected)
    x = alt.X("mention_count:Q", title="mentions", axis=_whole(), scale=alt.Scale(zero=True))
    layers = (
        known.mark_rule(strokeWidth=2).encode(x=alt.X("corrected_lower:Q"), x2="corrected_upper:Q"),
        known.mark_circle(size=60, opacity=1).encode(x=alt.X("corrected_count:Q")),
        _as(base, counted).mark_tick(thickness=3, size=12).encode(x=x),
    )
    return to_svg(alt.layer(*layers).properties(width=_PLOT, height=_LINE))


def trend(rows: pl.DataFrame, breaks: Sequence[date]) -> str:
    """Mentions of some entities week by week: corrected, or counted where they cannot be.

    Args:
        rows: canonical, period_start, mention_count, corrected_count, corrected_lower, corrected_upper.
        breaks: weeks in which another model read than the week before; they are marked.
    """
    names, values = _named(rows.with_columns(value=pl.coalesce("corrected_count", "mention_count")))
    colours = alt.Scale(domain=names, range=[COLOURS[1:][i % (len(COLOURS) - 1)] for i in range(len(names))])
    legend = alt.Legend(title=None, orient="top", columns=3, labelLimit=95, symbolOpacity=1)
    weeks = rows["period_start"].unique().sort().to_list()
    base = alt.Chart(data(values)).encode(
        x=alt.X("period_start:T", title=None, scale=alt.Scale(type="utc"), axis=_days(weeks)),
        color=alt.Color("name:N", scale=colours, legend=legend),
    )
    marks = alt.Chart(data([{"week": str(week)} for week in breaks])).mark_rule(strokeDash=[4, 4], color=INK)
    layers: list[alt.Chart] = [
        base.mark_area(opacity=0.12).encode(y=alt.Y("corrected_lower:Q"), y2="corrected_upper:Q"),
        base.mark_line(point=True).encode(y=alt.Y("value:Q", title="mentions a week")),
        *([marks.encode(x=alt.X("week:T"))] if breaks else []),
    ]
    return to_svg(alt.layer(*layers).properties(width=_WIDE_PLOT, height=_HEIGHT))


def ratios(rows: pl.DataFrame) -> str:
    """How many times as much was written of each entity as the period before, with intervals; right of 1 is more.

    Args:
        rows: canonical, movement, ratio, ratio_lower, ratio_upper; null where there is none.
    """
    nearest = 1 / _FAR
    names, values = _named(
        rows.with_columns(
            pl.when(pl.col("ratio").is_between(nearest, _FAR)).then("ratio").alias("ratio"),
            pl.col("ratio_lower").fill_null(0).clip(nearest, _FAR),
            pl.col("ratio_upper").fill_null(_FAR).clip(nearest, _FAR),
        )
    )
    scale = alt.Scale(type="log", domain=[nearest, _FAR])
    axis = alt.Axis(values=[0.1, 0.2, 0.5, 1, 2, 5, 10], format="~g", labelExpr="'×' + datum.label")
    kinds = {kind: colour for kind, colour in _MOVEMENTS.items() if kind in set(rows["movement"])}
    base = alt.Chart(data(values)).encode(y=_lines(names), color=_coloured("movement", kinds))
    point = base.transform_filter("isValid(datum.ratio)").mark_circle(size=60, opacity=1)
    layers = (
        alt.Chart(data([{"one": 1}])).mark_rule(strokeDash=[4, 4], color=INK).encode(x=alt.X("one:Q", scale=scale)),
        base.mark_rule(strokeWidth=2).encode(
            x=alt.X("ratio_lower:Q", scale=scale, axis=axis, title="times the period before"),
            x2="ratio_upper:Q",
        ),
        point.encode(x=alt.X("ratio:Q", scale=scale)),
    )
    return to_svg(alt.layer(*layers).properties(width=_PLOT, height=_LINE))


def pairs(rows: pl.DataFrame) -> str:
    """Which brands stand next to which other names; the more often, the larger the dot.

    Args:
        rows: brand, other, cluster_count, lift_lower; names are shown that have the most clusters in all pairs.
    """
    sides = {side: _most(rows, side) for side in ("brand", "other")}
    together = pl.when(pl.col("lift_lower") > 1).then(pl.lit("belong together")).otherwise(pl.lit("may be chance"))
    drawn = rows.filter(pl.col(side).is_in(names) for side, names in sides.items()).select(
        "cluster_count", *(pl.col(side).replace(names) for side, names in sides.items()), kind=together
    )
    y, x = (list(names.values()) for names in sides.values())
    chart = (
        alt.Chart(data(drawn.to_dicts()))
        .mark_circle(opacity=1)
        .encode(
            y=alt.Y("brand:N", sort=y, title=None, axis=name_axis(y)),
            x=alt.X("other:N", sort=x, title=None, axis=alt.Axis(labelAngle=-60, labelLimit=0)),
            size=alt.Size("cluster_count:Q", legend=None, scale=alt.Scale(range=[40, 320])),
            color=_coloured("kind", {"may be chance": _GREY, "belong together": _BLUE}),
        )
    )
    return to_svg(chart.properties(width=alt.Step(22), height=alt.Step(22)))


def days(rows: pl.DataFrame) -> str:
    """Reviews day by day, and what is left of them where near copies count once.

    Args:
        rows: day, review_count, cluster_count.
    """
    reviews, clusters = "reviews", "near copies counted once"
    colours = {reviews: _GREY, clusters: _BLUE}
    values = rows.select(pl.col("day").cast(pl.String), "review_count", "cluster_count").to_dicts()
    spread = rows["day"].to_list()
    width = max(2.0, 0.7 * _WIDE_PLOT / ((max(spread) - min(spread)).days + 1))
    base = alt.Chart(data(values)).encode(
        x=alt.X("day:T", title=None, scale=alt.Scale(type="utc", padding=width), axis=_days([])),
        color=_coloured("kind", colours),
    )
    y = alt.Y("review_count:Q", title="reviews a day", axis=_whole())
    layers = (
        _as(base, reviews).mark_bar(width=width).encode(y=y),
        _as(base, clusters).mark_bar(width=width).encode(y=alt.Y("cluster_count:Q")),
    )
    return to_svg(alt.layer(*layers).properties(width=_WIDE_PLOT, height=_HEIGHT))


def _named(rows: pl.DataFrame) -> tuple[list[str], list[dict[str, Any]]]:
    """Names as they are shown, in order, and the rows with them; days as text."""
    names = _short(rows["canonical"].unique(maintain_order=True).to_list())
    shown = rows.with_columns(pl.col(pl.Date).cast(pl.String), name=pl.col("canonical").replace(names))
    return list(names.values()), shown.select(_drawable(shown)).to_dicts()


def _drawable(rows: pl.DataFrame) -> list[str]:
    return [name for name, dtype in rows.schema.items() if dtype == pl.String or dtype.is_numeric()]


def _short(names: Sequence[str]) -> dict[str, str]:
    """By name, how it is shown; those that are cut to the same stay apart by something that cannot be seen."""
    shown: dict[str, str] = {}
    for name in names:
        label = short(name, _NAME)
        while label in shown.values():
            label += "\N{ZERO WIDTH SPACE}"
        shown[name] = label
    return shown


def _most(rows: pl.DataFrame, side: str) -> dict[str, str]:
    total = pl.col("cluster_count").sum()
    ordered = rows.group_by(side).agg(total).sort("cluster_count", side, descending=[True, False])
    return _short(ordered[side].head(_PAIRED).to_list())


def _lines(names: Sequence[str]) -> alt.Y:
    return alt.Y("name:N", sort=list(names), title=None, axis=name_axis(names))


def _whole() -> alt.Axis:
    return alt.Axis(tickMinStep=1, tickCount=5, format=",d")


def _days(ticks: Sequence[date]) -> alt.Axis:
    """Month and day; at these, or where there is room."""
    at = [alt.DateTime(year=day.year, month=day.month, date=day.day, utc=True) for day in ticks]
    return alt.Axis(format="%m-%d", labelOverlap=True, grid=False, tickCount=6, values=at or alt.Undefined)


def _coloured(field: str, colours: Mapping[str, str]) -> alt.Color:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=alt.Legend(title=None, orient="top"))


def _as(layer: alt.Chart, kind: str) -> alt.Chart:
    """A layer that stands in the legend under one name."""
    return layer.transform_calculate(kind=alt.expr.toString(kind))
