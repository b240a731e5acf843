"""Corrected counts: how often something was really mentioned, by what the model is known to miss and to make up.

A model that finds n mentions with precision p and recall r stands for C = n p / r real ones: a share p of what it
finds is real, and it finds a share r of what is real. This is the estimator of Rogan and Gladen (1978, Estimating
prevalence from the results of a screening test, Am. J. Epidemiol. 107) for counts of mentions, which have no true
negatives. p and r are measured on one set of labelled texts, so their errors are not independent: with TP mentions
right, p = TP / predicted and r = TP / gold, and p / r = gold / predicted, in which TP cancels.

Given the real mentions, what is found is a binomial number of them and a Poisson number of others, with mean gold r / p
and variance gold (r (1 - r) + r (1 - p) / p); relative to the mean squared that is (1 - p r) / predicted. The same
holds for n. By the delta method (Oehlert 1992, A note on the delta method, Am. Stat. 46)

    var(C) / C^2 = (1 - p r) (1 / n + 1 / predicted)

The first term is the luck of what was found, the second the uncertainty of precision and recall. In it p and r are
taken with half a mention added to each side (Jeffreys; Brown, Cai and DasGupta 2001, Interval estimation for a binomial
proportion, Stat. Sci. 16), so that a model that made no mistake in a few labelled mentions is not taken for faultless.
Parts that several models read are corrected each by its own figures and added, and so are their variances. The interval
is log-normal, C exp(+-z s) with s the relative standard deviation, as is usual of ratios: it cannot go below 0, and is
skewed as counts are.

It takes mentions as independent of each other and the labelled texts as typical of the reviews. Where a model misses
one name always and another never, the type's recall is right for neither.
"""

import hashlib
from collections.abc import Sequence

import polars as pl
from scipy.stats import norm

from ecner.nightly.aggregate import ENTITY
from ecner.storage.transaction import Reader, Transaction

CONFIDENCE = 0.9
_PRECISION, _RECALL = "strict_precision", "strict_recall"
_VERSION = ["model_version", "entity_type"]
_FACT = "figures of "  # and a version: a row of warehouse_facts
QUALITY = pl.Schema(
    {
        "model_version": pl.String(),
        "entity_type": pl.String(),
        "evaluated_on": pl.String(),
        "precision": pl.Float64(),
        "recall": pl.Float64(),
        "gold": pl.Int64(),
    }
)


def read_quality(reader: Reader, datasets: Sequence[str]) -> pl.DataFrame:
    """Precision and recall of each version and type (schema QUALITY), on the first of the data sets that has both.

    A type that the model never got right has none: nothing can be said of what it misses.
    """
    metrics = reader.read("model_evaluations").rename({"version": "model_version", "dataset": "evaluated_on"})
    key = [*_VERSION, "evaluated_on"]
    precision = metrics.filter(metric=_PRECISION).select(*key, precision="value")
    recall = metrics.filter(metric=_RECALL).select(*key, recall="value", gold="support")
    ranked = precision.join(recall, on=key).filter(
        pl.col("evaluated_on").is_in(list(datasets)),
        (pl.col("precision") > 0) & (pl.col("recall") > 0),
        pl.col("gold") > 0,
    )
    place = pl.col("evaluated_on").replace_strict({name: i for i, name in enumerate(datasets)}, return_dtype=pl.Int64)
    first = ranked.sort(place).unique(_VERSION, keep="first", maintain_order=True)
    return first.select(pl.col(name).cast(dtype) for name, dtype in QUALITY.items())


def restated(transaction: Transaction, quality: pl.DataFrame) -> list[str]:
    """Versions with other figures (schema QUALITY) than their counts were corrected by; keeps the new ones in mind.

    A retrain evaluates the champion anew: without this, days counted before and after it would part as if the market
    had moved.
    """
    digests = {
        version: hashlib.sha256(quality.filter(model_version=version).sort("entity_type").write_json().encode())
        for version in transaction.read("model_versions", columns=["version"])["version"]
    }
    facts = [{"name": _FACT + version, "value": digest.hexdigest()} for version, digest in digests.items()]
    new = pl.DataFrame(facts, schema=dict.fromkeys(("name", "value"), pl.String))
    changed = new.join(transaction.read("warehouse_facts"), on=["name", "value"], how="anti")
    transaction.delete("warehouse_facts", "name", changed["name"])
    transaction.append("warehouse_facts", changed)
    return changed["name"].str.strip_prefix(_FACT).to_list()


def corrected_counts(by_version: pl.DataFrame, quality: pl.DataFrame, key: Sequence[str] = ENTITY) -> pl.DataFrame:
    """Corrected counts with their intervals (the formula stands at the top of this file).

    Args:
        by_version: the key, model_version, mention_count.
        quality: the schema QUALITY.
        key: what is counted, entities or types; a type's interval is not a sum of its entities', whose errors are
            the same ones.

    Returns:
        The key, corrected_count, corrected_lower, corrected_upper, evaluated_on; all null where a version that read
        some of the mentions has no figures for the type.
    """
    found, p, r = pl.col("mention_count"), pl.col("precision"), pl.col("recall")
    right = pl.col("gold") * r
    predicted = right / p
    both = (right + 0.5) / (predicted + 1) * (right + 0.5) / (pl.col("gold") + 1)
    count = found * p / r
    relative = (1 - both) * (1 / found + 1 / predicted)
    parts = by_version.join(quality, on=_VERSION, how="left").select(
        *key, "evaluated_on", count=count, variance=count.pow(2) * relative
    )
    known = pl.col("count").is_not_null().all()
    sums = parts.group_by(key).agg(
        corrected_count=pl.when(known).then(pl.col("count").sum()),
        variance=pl.when(known).then(pl.col("variance").sum()),
        evaluated_on=pl.when(known).then(pl.col("evaluated_on").unique().sort().str.join(", ")),
    )
    count = pl.col("corrected_count")
    spread = (float(norm.ppf((1 + CONFIDENCE) / 2)) * pl.col("variance").sqrt() / count).exp()
    return sums.with_columns(corrected_lower=count / spread, corrected_upper=count * spread).drop("variance")
