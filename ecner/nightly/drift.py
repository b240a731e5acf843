"""Drift: the figures of a night's new reviews, against those of the nights before it.

New are reviews that no run has published before, whatever chose them. The names of one that is read again, as it was
edited or by ``--full``, are counted already: never_seen_share would be near 0, and nights after a backfill would drift
from it. So a backfill has no figures and enters no baseline, while the first load of a period does.

A night is compared with the last runs over the same source by the same model, so that baselines start anew with a
promotion. Other labels, thresholds or names move the figures as well, and are told like any other change.
"""

from collections.abc import Mapping

import polars as pl

from ecner.config import DriftSettings
from ecner.schema import TABLES
from ecner.storage.transaction import Reader

ALL = "all"  # the entity type of figures over all types
REVIEWS = "reviews"  # how many the figures rest on
METRICS: Mapping[str, str] = {
    "mentions_per_1000_chars": "mentions per 1,000 characters",
    "mean_confidence": "mean confidence",
    "never_seen_share": "share of never-seen entities",
    "unknown_char_share": "share of unknown characters",
}
_ENTITY = ("entity_type", "canonical")
_FIGURE = ("entity_type", "metric", "value")


class Sample:
    """What a night's new reviews hold, summed up part by part; memory follows the number of names.

    ``entities`` has a row for each distinct entity: entity_type, canonical, mentions, confidence (their sum).
    """

    def __init__(self) -> None:
        self.reviews = self.chars = self.unknown_chars = 0
        self.checked_chars = 0  # those of readings that have counted their unknown characters
        self.entities = pl.DataFrame(
            schema={"entity_type": pl.String, "canonical": pl.String, "mentions": pl.Int64, "confidence": pl.Float64}
        )

    def add(self, coverage: pl.DataFrame, mentions: pl.DataFrame) -> None:
        """Adds some reviews.

        Args:
            coverage: a row a review: chars_read, and unknown_chars, null where they were not counted.
            mentions: a row a mention: entity_type, canonical, confidence.
        """
        checked = coverage.filter(pl.col("unknown_chars").is_not_null())
        self.reviews += len(coverage)
        self.chars += int(coverage["chars_read"].sum())
        self.unknown_chars += int(checked["unknown_chars"].sum())
        self.checked_chars += int(checked["chars_read"].sum())
        part = mentions.select(*_ENTITY, pl.lit(1, pl.Int64).alias("mentions"), "confidence")
        self.entities = pl.concat([self.entities, part]).group_by(_ENTITY).agg(pl.col("mentions", "confidence").sum())


def drift_metrics(
    reader: Reader, run_id: str, sample: Sample, settings: DriftSettings, *, names_changed: bool = False
) -> pl.DataFrame:
    """A run's rows of the table drift_metrics; none where no review was new.

    A figure has drifted where ``|value - baseline| > allowed * baseline``, so that one that rises from 0 has; where
    it is not judged, ``allowed`` is null. Types that the runs before had found have figures too: one may vanish.

    Args:
        reader: the warehouse with the run in its ledger, and with entity_daily as the run before has left it.
        run_id: the run.
        sample: its new reviews.
        settings: thresholds, and what must be there to apply them.
        names_changed: entity_daily goes by other names than this run, and cannot tell what is new.
    """
    if not sample.reviews:
        return TABLES["drift_metrics"].polars_schema.to_frame()
    before = _figures_before(reader, run_id, settings)
    is_new = {"is_new": pl.lit(None, pl.Boolean)}
    entities = sample.entities.with_columns(**is_new) if names_changed else _marked(reader, sample.entities)
    figures = pl.concat([_of_types(sample, entities, before), _of_all(sample, entities)])
    compared = _compared(figures, before, sample, settings)
    is_judged = pl.lit(sample.reviews >= settings.min_reviews)
    return _judged(compared, is_judged & pl.col("is_enough")).with_columns(run_id=pl.lit(run_id))


def _figures_before(reader: Reader, run_id: str, settings: DriftSettings) -> pl.DataFrame:
    """Figures of the last runs of this source and model that had enough reviews: the columns _FIGURE."""
    run = reader.read("extraction_runs", where={"run_id": run_id}, columns=["source", "model_version"])
    alike = {"status": "succeeded", **run.row(0, named=True)}
    runs = reader.read("extraction_runs", where=alike, columns=["run_id", "started_at"])
    sizes = reader.read("drift_metrics", where={"entity_type": ALL, "metric": REVIEWS}, columns=["run_id", "value"])
    enough = sizes.filter(pl.col("value") >= settings.min_reviews)
    last = runs.join(enough, on="run_id", how="semi").sort("started_at", "run_id").tail(settings.runs)
    return reader.lookup("drift_metrics", "run_id", last["run_id"], columns=_FIGURE)


def _marked(reader: Reader, entities: pl.DataFrame) -> pl.DataFrame:
    """Adds ``is_new``: no run before has counted the entity. The days are passed page by page, as they may be many."""
    new = entities.select(_ENTITY)
    for page in reader.pages("entity_daily", columns=_ENTITY):
        new = new.join(page, on=_ENTITY, how="anti")
    marked = entities.join(new.with_columns(is_new=pl.lit(value=True)), on=_ENTITY, how="left")
    return marked.with_columns(pl.col("is_new").fill_null(value=False))


def _of_types(sample: Sample, entities: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Figures of each type, the columns _FIGURE; a type without mentions has 0 of them, and no other figure."""
    types = pl.concat([entities["entity_type"], before["entity_type"]]).unique().to_frame()
    measured = entities.group_by("entity_type").agg(**_measures(sample))
    return _in_rows(
        types.filter(pl.col("entity_type") != ALL)  # a label of that name would stand in the place of the whole
        .join(measured, on="entity_type", how="left")
        .with_columns(pl.col("mentions_per_1000_chars").fill_null(0))
    )


def _of_all(sample: Sample, entities: pl.DataFrame) -> pl.DataFrame:
    """Figures over all types, the columns _FIGURE, with those that are of no type."""
    unknown = sample.unknown_chars / sample.checked_chars if sample.checked_chars else None
    return _in_rows(
        entities.select(
            entity_type=pl.lit(ALL),
            **_measures(sample),
            unknown_char_share=pl.lit(unknown, pl.Float64),
            **{REVIEWS: pl.lit(sample.reviews, pl.Float64)},
        )
    )


def _measures(sample: Sample) -> Mapping[str, pl.Expr]:
    mentions = pl.col("mentions").sum()
    return {
        "mentions_per_1000_chars": 1000 * mentions / sample.chars,
        "mean_confidence": pl.when(mentions > 0).then(pl.col("confidence").sum() / mentions),
        "never_seen_share": pl.col("is_new").mean(),
    }


def _in_rows(figures: pl.DataFrame) -> pl.DataFrame:
    return figures.unpivot(index="entity_type", variable_name="metric", value_name="value")


def _compared(figures: pl.DataFrame, before: pl.DataFrame, sample: Sample, settings: DriftSettings) -> pl.DataFrame:
    """Sets each figure beside its mean in the runs before; ``is_enough`` says whether the two can be judged."""
    of_runs = pl.col("value").drop_nulls()
    baselines = before.group_by("entity_type", "metric").agg(baseline=of_runs.mean(), baseline_runs=of_runs.len())
    allowed = {metric: getattr(settings, metric) for metric in METRICS}
    both = figures.join(baselines, on=["entity_type", "metric"], how="left").with_columns(
        pl.col("baseline_runs").fill_null(0),
        limit=pl.col("metric").replace_strict(allowed, default=None, return_dtype=pl.Float64),
    )
    return both.with_columns(
        is_enough=(pl.col("baseline_runs") >= settings.min_runs)
        & (_events(sample) >= settings.min_mentions)
        & pl.col("value").is_not_null()
    )


def _events(sample: Sample) -> pl.Expr:
    """How many events a figure tells of, found or expected by its baseline, whichever are more.

    They are new names, unknown characters, or else the mentions of the type.
    """
    metric, most = pl.col("metric"), pl.max_horizontal("value", "baseline")
    names = dict(sample.entities.group_by("entity_type").len().iter_rows()) | {ALL: len(sample.entities)}
    new_names = most * pl.col("entity_type").replace_strict(names, default=0, return_dtype=pl.Int64)
    mentions = most.filter(metric == "mentions_per_1000_chars").first().over("entity_type") * sample.chars / 1000
    events = (
        pl.when(metric == "never_seen_share")
        .then(new_names)
        .when(metric == "unknown_char_share")
        .then(most * sample.checked_chars)
        .otherwise(mentions)
    )
    return events.round(6)  # the counts that the shares were made of, which floats may miss by a little


def _judged(compared: pl.DataFrame, is_judged: pl.Expr) -> pl.DataFrame:
    change = (pl.col("value") - pl.col("baseline")).abs()
    return (
        compared.with_columns(allowed=pl.when(is_judged).then("limit"))
        .with_columns(drifted=(change > pl.col("allowed") * pl.col("baseline")).fill_null(value=False).cast(pl.Int64))
        .sort("entity_type", "metric")
    )
