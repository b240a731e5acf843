"""The tag set of a schema.json: tag -> id, in any order of ids."""

import json
from operator import itemgetter
from pathlib import Path

from ecner.data.conll import scheme_of
from ecner.data.files import read_bytes
from ecner.data.rows import shown
from ecner.errors import DataError
from ecner.labels import TagSet


def read_label_set(path: Path | str) -> TagSet:
    """The tag set of a schema.json file; the scheme is BILOU where any tag is L- or U-, else BIO.

    Raises:
        UsageError: the file is missing or cannot be read.
        DataError: the file is not a JSON object of tags and ids 0..n-1, or its tags are not a full set.
    """
    try:
        pairs = json.loads(read_bytes(path).decode("utf-8-sig"), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"it is not JSON in UTF-8: {error}") from None
    # a pairs hook keeps a tag that stands twice, which a dict would drop
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, tuple) for pair in pairs):
        raise _wrong(path, f"it holds {shown(pairs)}")
    ids = [i for _, i in pairs]
    if not all(type(i) is int for i in ids) or sorted(ids) != list(range(len(ids))):
        raise _wrong(path, f"its ids are {shown(ids)}")
    tags = tuple(tag for tag, _ in sorted(pairs, key=itemgetter(1)))
    try:
        return TagSet(tags, scheme_of(tags))
    except ValueError as error:
        raise _wrong(path, str(error)) from None


def _wrong(path: Path | str, found: str) -> DataError:
    return DataError(
        f"{path} is not a label file: {found}; expected a JSON object such as "
        '{"O": 0, "B-HPPX": 1, "I-HPPX": 2} with each id of 0..n-1 once'
    )
