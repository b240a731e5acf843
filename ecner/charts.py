"""Pictures of the evaluation report, as SVG text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from ecner.drawing import COLOURS, INK, colour, data, name_axis, short, to_svg

_F1_FIELDS = ("eval_", "_strict_f1")
_MEAN = "eval_strict_f1"


def reliability(curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """Precision against confidence of each model; on the diagonal a confidence means what it says.

    Args:
        curves: by model, its bins: mean confidence, precision, number of mentions.
    """
    rows = [
        {"model": model, "confidence": confidence, "precision": precision, "mentions": count}
        for model, bins in curves.items()
        for confidence, precision, count in bins
    ]
    unit = alt.Scale(domain=[0, 1])
    diagonal = (
        alt.Chart(data([{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
        .mark_line(strokeDash=[4, 4], color=INK, strokeWidth=1)
        .encode(x=alt.X("x:Q", scale=unit, title="mean confidence"), y=alt.Y("y:Q", scale=unit, title="precision"))
    )
    base = alt.Chart(data(rows)).encode(
        x=alt.X("confidence:Q", scale=unit), y=alt.Y("precision:Q", scale=unit), color=colour("model", list(curves))
    )
    points = base.mark_circle(opacity=1).encode(
        size=alt.Size("mentions:Q", legend=None, scale=alt.Scale(range=[20, 160]))
    )
    return to_svg((diagonal + base.mark_line() + points).properties(width=320, height=320))


def f1_by_type(figures: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """F1 of each type and model with its interval.

    Args:
        figures: by entity type, then by model: F1, and the lower and upper end of its interval.
    """
    rows = [
        {"type": short(entity_type), "model": model, "f1": value, "lower": lower, "upper": upper}
        for entity_type, sides in figures.items()
        for model, (value, lower, upper) in sides.items()
    ]
    models, names = _models(figures.values()), [short(name) for name in figures]
    base = alt.Chart(data(rows)).encode(
        y=alt.Y("type:N", sort=names, title=None, axis=name_axis(names)), yOffset=alt.YOffset("model:N", sort=models)
    )
    near = alt.Scale(zero=False)
    by_model = colour("model", models)
    points = base.mark_circle(size=70, opacity=1).encode(x=alt.X("f1:Q", scale=near, title="strict F1"), color=by_model)
    intervals = base.mark_rule(strokeWidth=2).encode(x=alt.X("lower:Q", scale=near), x2="upper:Q", color=by_model)
    return to_svg((intervals + points).properties(width=340, height=alt.Step(16)))


def entity_change(rows: Sequence[tuple[str, Mapping[str, int]]]) -> str:
    """In how many reviews each model finds each entity.

    Args:
        rows: name, and the number of reviews by model; in the order to be shown.
    """
    names = [short(name) for name, _ in rows]
    values = [
        {"name": short(name), "model": model, "reviews": count}
        for name, counts in rows
        for model, count in counts.items()
    ]
    models = _models(counts for _, counts in rows)
    chart = (
        alt.Chart(data(values))
        .mark_bar()
        .encode(
            x=alt.X("reviews:Q", title="reviews", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("name:N", sort=names, title=None, axis=name_axis(names)),
            yOffset=alt.YOffset("model:N", sort=models),
            color=colour("model", models),
        )
    )
    return to_svg(chart.properties(width=320, height=alt.Step(8)))


def learning_curve(log: Sequence[Mapping[str, Any]]) -> str:
    """Training loss, and strict F1 on each dev set, over the epochs.

    Args:
        log: the Trainer's log: rows with ``epoch``, and ``loss`` or ``eval_strict_f1`` and ``eval_<name>_strict_f1``.
    """
    losses = [{"epoch": row["epoch"], "loss": row["loss"]} for row in log if "loss" in row]
    scores = [
        {"epoch": row["epoch"], "set": _dev_set(name), "f1": value}
        for row in log
        for name, value in row.items()
        if name.startswith(_F1_FIELDS[0]) and name.endswith(_F1_FIELDS[1])
    ]
    epochs = alt.X("epoch:Q", scale=alt.Scale(domain=[0, max((row["epoch"] for row in losses + scores), default=1)]))
    loss = (
        alt.Chart(data(losses)).mark_line(color=COLOURS[1]).encode(x=epochs, y=alt.Y("loss:Q", title="training loss"))
    )
    sets = sorted({str(row["set"]) for row in scores})
    f1 = (
        alt.Chart(data(scores))
        .mark_line(point=True)
        .encode(
            x=epochs,
            y=alt.Y("f1:Q", title="strict F1 on dev", scale=alt.Scale(zero=False)),
            color=colour("set", sets),
        )
    )
    panels = [panel.properties(width=360, height=170) for panel, rows in ((loss, losses), (f1, scores)) if rows]
    return to_svg(alt.vconcat(*panels).resolve_legend(color="independent").resolve_scale(color="independent"))


def _models(rows: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(model for row in rows for model in row))


def _dev_set(name: str) -> str:
    """``mean`` of all dev sets, or the name of one."""
    return "mean" if name == _MEAN else name.removeprefix(_F1_FIELDS[0]).removesuffix(_F1_FIELDS[1])
