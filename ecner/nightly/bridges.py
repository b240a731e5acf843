"""What an unchanged market would show where several models read: how much more or less each finds in the same reviews.

A bridge has measured that for two models. Bridges in a row multiply, so that each model that read two periods is joined
to one of them, the root, by steps along bridges. With r_v the ratio of what model v finds to what the root finds, and
s_v and t_v the shares of the later and of the earlier period's texts that v read, the ratio to expect is

    sum of s_v r_v / sum of t_v r_v

Of b and b0 mentions that the two models of a step find, b given b + b0 is binomial, which gives its ratio an interval;
the intervals of all steps hold together but for an error that they share evenly (Bonferroni). The ratio to expect
rises or falls with each step's, being linear over linear in it: its least and greatest values lie where the ratio of
each step is at an end of its interval.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import beta

from ecner.nightly.aggregate import ENTITY

Floats = NDArray[np.float64]
Step = tuple[str, str]  # from a model to the next, away from the root
_WHOLE_TYPE = "*"  # of model_bridge
_LEAST_BRIDGED = 20  # mentions in the bridge below which an entity goes by those of its type
_MOST_STEPS = 8  # with 2 to the power of them corners


def ratio_interval(x: NDArray[np.int64], x0: NDArray[np.int64], error: float) -> tuple[Floats, Floats]:
    """Interval of the ratio of two Poisson means by their counts: 0 to infinity where one of these is 0.

    That of Clopper and Pearson (1934) for theta, the share of x in x + x0, as theta / (1 - theta).
    """
    with np.errstate(divide="ignore"):
        lower = np.where(x == 0, 0.0, beta.ppf(error / 2, np.maximum(x, 1), x0 + 1))
        upper = np.where(x0 == 0, 1.0, beta.ppf(1 - error / 2, x + 1, np.maximum(x0, 1)))
        return lower / (1 - lower), upper / (1 - upper)


def ways_to(versions: Sequence[str], bridges: pl.DataFrame) -> Mapping[str, Sequence[Step]] | None:
    """The steps from the first of some models to each of them, as few as can be; None where bridges do not join them.

    Args:
        versions: of the models.
        bridges: rows of model_bridge.
    """
    pairs = bridges.select("old_version", "new_version").unique().sort(pl.all()).rows()
    ways: dict[str, tuple[Step, ...]] = {versions[0]: ()}
    reached = [versions[0]]
    for version in reached:  # which grows meanwhile
        for other in (new if version == old else old for old, new in pairs if version in {old, new}):
            if other not in ways:
                ways[other] = (*ways[version], (version, other))
                reached.append(other)
    if not ways.keys() >= set(versions):
        return None
    found = {version: ways[version] for version in versions}
    return found if len(_steps(found)) <= _MOST_STEPS else None


def _steps(ways: Mapping[str, Sequence[Step]]) -> list[Step]:
    return list(dict.fromkeys(step for way in ways.values() for step in way))


def expected_ratios(
    entities: pl.DataFrame,
    shares: tuple[Mapping[str, int], Mapping[str, int]],
    ways: Mapping[str, Sequence[Step]],
    bridges: pl.DataFrame,
    error: float,
) -> tuple[Floats, Floats]:
    """The least and the greatest ratio that an unchanged market would show, for each of some entities.

    NaN where the bridges say nothing of an entity, or of its type.

    Args:
        entities: entity_type and canonical.
        shares: how many texts each model read of the later and of the earlier period.
        ways: as ``ways_to`` tells them.
        bridges: rows of model_bridge.
        error: probability that an interval of a step's ratio is wrong, all together.
    """
    steps = _steps(ways)
    limits = [ratio_interval(*_counts(entities, step, bridges), error / len(steps)) for step in steps]
    ends, ones = [], np.ones(len(entities))
    for corner in product((0, 1), repeat=len(steps)):
        ratios = {step: limit[end] for step, limit, end in zip(steps, limits, corner, strict=True)}
        found = {version: prod((ratios[step] for step in way), start=ones) for version, way in ways.items()}
        later, earlier = (_mean(found, part) for part in shares)
        with np.errstate(invalid="ignore", divide="ignore"):  # two that have no limit, or are 0, say nothing
            ends.append(later / earlier)
    return np.min(ends, axis=0), np.max(ends, axis=0)


def _mean(found: Mapping[str, Floats], shares: Mapping[str, int]) -> Floats:
    return np.asarray(sum(count * found[version] for version, count in shares.items() if count) / sum(shares.values()))


def _counts(entities: pl.DataFrame, step: Step, bridges: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each entity's counts in a bridge, the further model's first; those of its type where its own are too few."""
    old, new = step
    sides, bridge = ["new_count", "old_count"], bridges.filter(old_version=old, new_version=new)
    if bridge.is_empty():  # it was made the other way
        sides, bridge = sides[::-1], bridges.filter(old_version=new, new_version=old)
    own = bridge.filter(pl.col("old_count") + pl.col("new_count") >= _LEAST_BRIDGED, pl.col("canonical") != _WHOLE_TYPE)
    types = bridge.filter(canonical=_WHOLE_TYPE).select("entity_type", *sides)
    joined = (
        entities.select(ENTITY)
        .join(own.select(*ENTITY, *sides), on=ENTITY, how="left", maintain_order="left")
        .join(types, on="entity_type", how="left", maintain_order="left", suffix="_type")
        .select(pl.coalesce(side, f"{side}_type") for side in sides)
    )
    further, nearer = (joined[side].to_numpy() for side in sides)
    return further, nearer
