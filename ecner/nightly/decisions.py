"""What people decided on names: which are one entity, and which are not."""

from ecner.nightly.names import Names
from ecner.storage.transaction import Reader

ACCEPT, REJECT = "accept", "reject"


def read_links(reader: Reader) -> Names:
    """What names stand for, by type: the newest word on an alias counts, and links are followed to their end."""
    links: dict[str, dict[str, str]] = {}
    columns = ["action", "entity_type", "alias", "canonical"]
    decisions = reader.read("link_decisions", columns=columns, order_by=["decision_no"])
    for action, entity_type, alias, canonical in decisions.iter_rows():
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
