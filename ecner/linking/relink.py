"""Publish the whole history under other names, from what was found in the texts: no text is read."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from ecner.nightly.names import Lexicon
from ecner.nightly.recompute import recompute
from ecner.storage.transaction import Transaction

_FORM = ["entity_type", "canonical", "surface"]


def relink(transaction: Transaction, lexicon: Lexicon, evaluated_on: Sequence[str]) -> set[date]:
    """Gives every mention the name that the lexicon and its links say; returns the days computed anew.

    Names are worked out once for each form that is written, and set by one statement.

    Args:
        transaction: holds the history.
        lexicon: with the decisions that are to hold.
        evaluated_on: as ``recompute`` takes it.
    """
    forms = transaction.distinct("mentions", _FORM)
    names = lexicon.add_canonical(forms.rename({"canonical": "former"})).rename(
        {"canonical": "to", "former": "canonical"}
    )
    renamed = names.filter(pl.col("to") != pl.col("canonical"))
    days = {*transaction.rename("mentions", "canonical", renamed.select(*_FORM, "to"), touching="review_date")}
    recompute(transaction, days, evaluated_on)
    return days
