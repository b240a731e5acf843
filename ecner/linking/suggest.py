"""Suggest names that may be one entity: an unresolved queue for people, of which nothing is applied."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
from rapidfuzz.distance import OSA
from rapidfuzz.process import cdist

from ecner.config import Settings
from ecner.linking.evidence import NAME, PAIR, Evidence, gather
from ecner.linking.leased import leased
from ecner.linking.score import LEAST_SCORE, is_chinese, letters, scored, syllables
from ecner.nightly.decisions import read_links
from ecner.nightly.names import Lexicon
from ecner.nightly.rules import Rules
from ecner.retry import retried
from ecner.schema import TABLES
from ecner.storage.lease import Lease
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse

_PAIRED = {"entity_type": pl.String, "left": pl.String, "right": pl.String}
_LEAST_SLOTS = 2  # that a Latin and a Chinese name share, where they never stand in one text
_MOST_EDITS = 2
_ROWS_AT_ONCE = 500


def suggest(settings: Settings, least_score: float = LEAST_SCORE) -> pl.DataFrame:
    """Works out suggestions anew, in the place of the earlier ones, and returns the queue: those without a decision.

    Under the lease, as examples are words of reviews, and what is forgotten meanwhile would come back in them.

    Raises:
        UsageError: there is no warehouse yet.
        LeaseError: a run is at work.
        RunError: the warehouse failed.
    """
    rules = Rules.of(settings.model)
    with leased(settings, "suggest") as (warehouse, lease):
        retried(lambda: _renew(warehouse, lease, rules, least_score))
    return run_query(
        *settings.warehouse_at, "select * from link_queue order by score desc, entity_type, alias, canonical"
    )


def _renew(warehouse: Warehouse, lease: Lease, rules: Rules, least_score: float) -> None:
    with warehouse.connect() as reader:
        linked = rules.linked(read_links(reader))
        evidence = gather(reader, linked)
    found = suggestions(evidence, linked.lexicon, least_score).with_columns(suggested_at=pl.lit(datetime.now(UTC)))
    with warehouse.begin() as transaction, lease.held(transaction):
        transaction.delete_all("link_suggestions")
        transaction.append("link_suggestions", found)


def suggestions(evidence: Evidence, lexicon: Lexicon, least_score: float = LEAST_SCORE) -> pl.DataFrame:
    """Rows of link_suggestions but for suggested_at: every pair of names that may be one, scored, best first."""
    pairs = scored(_with_counts(_apart(candidates(evidence), lexicon), evidence))
    kept = pairs.filter(pl.col("score") >= least_score).sort(
        "score", *NAME, "alias", descending=[True, False, False, False]
    )
    return kept.select(name for name in TABLES["link_suggestions"].polars_schema if name != "suggested_at")


def candidates(evidence: Evidence) -> pl.DataFrame:
    """Pairs worth a look (entity_type, left, right; left before right), each once."""
    slots = evidence.slots.filter(pl.col("shared_slots") >= _LEAST_SLOTS)
    met = [frame.select(PAIR).rename({"latin": "left", "chinese": "right"}) for frame in (evidence.met, slots)]
    written = [
        pl.DataFrame(
            [(entity_type, *pair) for pair in _written_alike(names["canonical"].to_list())],
            schema=_PAIRED,
            orient="row",
        )
        for (entity_type,), names in evidence.names.partition_by("entity_type", as_dict=True).items()
    ]
    both = [pl.min_horizontal("left", "right").alias("left"), pl.max_horizontal("left", "right").alias("right")]
    return pl.concat([pl.DataFrame(schema=_PAIRED), *met, *written]).with_columns(both).unique().sort(_PAIRED.keys())


def _written_alike(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names of one type that are written or sound alike."""
    digits = str.maketrans("oil", "011")
    yield from _same(names, letters)
    yield from _same(names, lambda name: letters(name).translate(digits))
    yield from _same(names, syllables)
    yield from _same(names, lambda name: "".join(syllables(name)) if is_chinese(name) else letters(name))
    yield from _same(names, lambda name: "".join(s[0] for s in syllables(name)) if is_chinese(name) else letters(name))
    latin = [name for name in names if not is_chinese(name)]
    bare = [letters(name) for name in latin]
    for start in range(0, len(latin), _ROWS_AT_ONCE):
        part = bare[start : start + _ROWS_AT_ONCE]
        distances = cdist(part, bare, scorer=OSA.distance, score_cutoff=_MOST_EDITS, dtype=np.uint8)
        for row, column in zip(*np.nonzero(distances <= _MOST_EDITS), strict=True):
            if start + row < column:
                yield latin[start + row], latin[column]


def _same(names: Sequence[str], key: Callable[[str], Hashable]) -> Iterator[tuple[str, str]]:
    """Pairs of names with the same key, each name with the first of them."""
    first: dict[Hashable, str] = {}
    for name in names:
        if (other := first.setdefault(key(name), name)) != name:
            yield other, name


def _apart(pairs: pl.DataFrame, lexicon: Lexicon) -> pl.DataFrame:
    """Without pairs of which the lexicon says that both are names of their own."""
    own = [(kind, name) for kind, names in lexicon.names.items() for name in set(names.values())]
    known = pl.DataFrame(own, schema=dict.fromkeys(NAME, pl.String), orient="row")
    both = pairs.join(known, left_on=["entity_type", "left"], right_on=NAME, how="semi").join(
        known, left_on=["entity_type", "right"], right_on=NAME, how="semi"
    )
    return pairs.join(both, on=list(_PAIRED), how="anti")


def _with_counts(pairs: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """Pairs as alias and canonical, a Chinese name beside a Latin one, else the more frequent; with their counts."""
    counts = evidence.names.rename({"canonical": "name", "text_count": "count"})
    for side in ("left", "right"):
        names = counts.rename({"name": side, "count": f"{side}_count", "example": f"{side}_example"})
        pairs = pairs.join(names, on=["entity_type", side])
    chinese = {side: pl.col(side).map_elements(is_chinese, return_dtype=pl.Boolean) for side in ("left", "right")}
    leads = (
        pl.when(chinese["left"] == chinese["right"])
        .then(pl.col("left_count") >= pl.col("right_count"))
        .otherwise(chinese["left"])
    )
    roles = {
        name + end: pl.when(leads if name == "canonical" else ~leads).then("left" + end).otherwise("right" + end)
        for name in ("alias", "canonical")
        for end in ("", "_count", "_example")
    }
    told = pairs.with_columns(
        **roles,
        latin=pl.when(chinese["left"]).then("right").otherwise("left"),
        chinese=pl.when(chinese["left"]).then("left").otherwise("right"),
        rarer_count=pl.min_horizontal("left_count", "right_count"),
    )
    for frame in (evidence.met, evidence.slots):
        told = told.join(frame, on=PAIR, how="left")
    return told.with_columns(pl.col("together_count", "adjacent_count", "shared_slots").fill_null(0))
