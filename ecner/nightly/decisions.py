"""What people decided on names: which are one entity, and which are not."""

from collections.abc import Mapping

import polars as pl

from ecner.config import Address
from ecner.errors import UsageError
from ecner.nightly.names import Names
from ecner.storage.query import run_query
from ecner.storage.transaction import Reader

ACCEPT, REJECT = "accept", "reject"
_TABLE = "link_decisions"


def read_links(reader: Reader) -> Names:
    """The names that others stand for, by type: links are followed to their ends."""
    return _followed(read_direct_links(reader))


def read_direct_links(reader: Reader) -> Names:
    """The links as they were accepted, by type, without what was taken back; there is no way round in them."""
    return _direct(reader.read(_TABLE))


def links_in(warehouse: Address) -> Names:
    """As ``read_links``, of a warehouse that is looked at where there is one, but not made."""
    try:
        return _followed(_direct(run_query(*warehouse, _TABLE)))
    except UsageError:  # no warehouse yet, or one that an earlier version made
        return {}


def follow(name: str, links: Mapping[str, str]) -> str:
    """The end of the links that begin at a name."""
    while name in links:
        name = links[name]
    return name


def _direct(decisions: pl.DataFrame) -> dict[str, dict[str, str]]:
    """The newest word on an alias counts; that two names are not one is said of both ways to link them."""
    links: dict[str, dict[str, str]] = {}
    ordered = decisions.sort("decision_no").select("action", "entity_type", "alias", "canonical")
    for action, entity_type, alias, canonical in ordered.iter_rows():
        of_type = links.setdefault(entity_type, {})
        if action == ACCEPT:
            of_type[alias] = canonical
            continue
        for name, other in ((alias, canonical), (canonical, alias)):
            if of_type.get(name) == other:
                del of_type[name]
    return links


def _followed(links: Names) -> Names:
    return {kind: {alias: follow(alias, of_type) for alias in of_type} for kind, of_type in links.items()}
