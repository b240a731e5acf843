"""What people decided on names: which are one entity, and which are not."""

import polars as pl

from ecner.config import Address
from ecner.errors import UsageError
from ecner.nightly.names import Names
from ecner.storage.query import run_query
from ecner.storage.transaction import Reader

ACCEPT, REJECT = "accept", "reject"
_TABLE = "link_decisions"


def read_links(reader: Reader) -> Names:
    """The names that others stand for, by type."""
    return _links(reader.read(_TABLE))


def links_in(warehouse: Address) -> Names:
    """The same, of a warehouse that is looked at where there is one, but not made."""
    try:
        return _links(run_query(*warehouse, _TABLE))
    except UsageError:  # no warehouse yet, or one that an earlier version made
        return {}


def _links(decisions: pl.DataFrame) -> Names:
    """The newest word on an alias counts, and links are followed to their end."""
    links: dict[str, dict[str, str]] = {}
    ordered = decisions.sort("decision_no").select("action", "entity_type", "alias", "canonical")
    for action, entity_type, alias, canonical in ordered.iter_rows():
        of_type = links.setdefault(entity_type, {})
        if action == ACCEPT:
            of_type[alias] = canonical
        elif of_type.get(alias) == canonical:
            del of_type[alias]
    return {kind: {alias: _end(alias, of_type) for alias in of_type} for kind, of_type in links.items()}


def _end(name: str, links: dict[str, str]) -> str:
    while name in links:
        name = links[name]
    return name
