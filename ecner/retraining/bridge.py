"""The bridge between two models: what both find in the same recent reviews, so that a step in a trend can be judged."""

from dataclasses import dataclass

import polars as pl

from ecner.config import Address, LakeSettings, Settings
from ecner.data.hashes import hash_texts
from ecner.errors import ModelError, UsageError
from ecner.inference.reader import Reader
from ecner.nightly.decisions import links_in
from ecner.nightly.extract import span_frame
from ecner.nightly.rules import Rules
from ecner.registry import CHAMPION, ModelVersion, resolve_in
from ecner.retraining.overlap import recent_reviews
from ecner.schema import TABLES
from ecner.storage.query import run_query

WHOLE_TYPE = "*"  # the canonical under which a type is counted as a whole
_ENTITY = ["entity_type", "canonical"]


@dataclass(frozen=True)
class Champion:
    """Who leads; ``problem`` says why its model cannot be had where ``model`` is None."""

    version: str
    model: ModelVersion | None
    problem: str = ""


@dataclass(frozen=True)
class Bridge:
    """What the champion and the model that takes over find in the same reviews.

    ``counts`` are rows of model_bridge: mentions of each entity, and of each type under WHOLE_TYPE, by either model.
    There are none where the champion could not read; ``problem`` then says why.
    """

    champion: Champion
    new: ModelVersion
    reviews: int
    counts: pl.DataFrame
    problem: str = ""


def find_champion(warehouse: Address, lake: LakeSettings | None = None) -> Champion:
    """The champion by a warehouse that is looked at where there is one, whether its files are there or not.

    Raises:
        ModelError: the shipped model is damaged, and no other was ever champion.
    """
    try:
        model = resolve_in(warehouse, CHAMPION, lake)
    except ModelError as error:
        if (version := _leading_version(warehouse)) is None:
            raise
        return Champion(version, None, str(error))
    return Champion(model.version, model)


def _leading_version(warehouse: Address) -> str | None:
    """The champion's version by the registry alone."""
    try:
        versions = run_query(*warehouse, "model_versions")
    except UsageError:  # no warehouse yet
        return None
    return next(iter(versions.filter(status=CHAMPION)["version"]), None)


def read_bridge(settings: Settings, champion: Champion, new: ModelVersion) -> Bridge:
    """Both models read train.overlap_reviews recent reviews, under the night's rules. Slow: outside any transaction.

    Raises:
        UsageError, DataError, RunError: the source cannot be read.
        ModelError: the new model cannot be loaded. A champion that cannot leaves the bridge empty.
    """
    rules = Rules.of(settings.model).linked(links_in(settings.warehouse_at))
    sample = recent_reviews(settings, settings.train.overlap_reviews)
    found = _mentions(settings, rules, sample, new)
    empty = pl.DataFrame(schema=TABLES["model_bridge"].polars_schema)
    if champion.model is None:
        return Bridge(champion, new, len(sample), empty, champion.problem)
    try:
        before = _mentions(settings, rules, sample, champion.model)
    except ModelError as error:
        return Bridge(champion, new, len(sample), empty, str(error))
    counts = _counts(before, found).with_columns(
        old_version=pl.lit(champion.version), new_version=pl.lit(new.version), reviews=pl.lit(len(sample))
    )
    return Bridge(champion, new, len(sample), TABLES["model_bridge"].validate(counts))


def _mentions(settings: Settings, rules: Rules, sample: pl.DataFrame, model: ModelVersion) -> pl.DataFrame:
    """The mentions that a night with this model would publish of the sample; each text is read once."""
    reader = Reader.open(model.folder, settings.model, max_batch_chars=settings.run.max_batch_chars)
    named = pl.lit(model.version)
    reviews = sample.with_columns(
        product_id=pl.lit(None, pl.String), text_hash=hash_texts(sample["text"]), fingerprint=named, model_version=named
    )
    texts = reviews.select("text_hash", "text").unique("text_hash", maintain_order=True)
    spans = span_frame(reader.read(texts["text"].to_list()), texts["text"], reader.tag_set.labels)
    return rules.mentions(
        reviews, spans.with_columns(text_hash=texts["text_hash"].gather(spans["row"]), fingerprint=named)
    )


def _counts(before: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Mentions per entity and per type (entity_type, canonical, old_count, new_count), 0 where one model has none."""

    def counted(mentions: pl.DataFrame, name: str) -> pl.DataFrame:
        entities = mentions.select(_ENTITY).filter(pl.col("canonical") != WHOLE_TYPE)
        types = mentions.select("entity_type", canonical=pl.lit(WHOLE_TYPE))
        return pl.concat([entities, types]).group_by(_ENTITY).agg(pl.len().cast(pl.Int64).alias(name))

    both = counted(before, "old_count").join(counted(found, "new_count"), on=_ENTITY, how="full", coalesce=True)
    return both.with_columns(pl.col("old_count", "new_count").fill_null(0)).sort(_ENTITY)
