import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.data.label_sets import read_label_set
from ecner.errors import DataError, UsageError
from ecner.labels import TagSet


@given(
    labels=st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=3),
    scheme=st.sampled_from(["BIO", "BILOU"]),
    data=st.data(),
)
def test_tags_stand_in_the_order_of_their_ids(tmp_path_factory, labels, scheme, data):
    tags = data.draw(st.permutations(TagSet.from_labels(labels, scheme).tags))
    ids = data.draw(st.permutations(range(len(tags))))
    path = tmp_path_factory.getbasetemp() / "schema.json"
    path.write_text(json.dumps(dict(zip(tags, ids, strict=True))))
    tag_set = read_label_set(path)
    assert tag_set.scheme == scheme
    assert [tag_set.tags[i] for i in ids] == list(tags)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "holds"),
        (b'["O", "B-X", "I-X"]', "holds"),
        (b"[1]", "holds"),
        (b'"O"', "holds"),
        (b'{"O": "0", "B-X": "1", "I-X": "2"}', "ids are"),
        (b'{"O": false, "B-X": true, "I-X": 2}', "ids are"),
        (b'{"O": 1, "B-X": 2, "I-X": 3}', "ids are"),
        (b'{"O": 0, "B-X": 1, "I-X": 1}', "ids are"),
        (b'{"O": 0, "B-X": 1, "I-X": 2, "O": 3}', "not a BIO set"),
        (b'{"O": 0, "B-X": 1}', "not a BIO set"),
        (b'{"B-X": 0, "I-X": 1}', "not a BIO set"),
        (b'{"O": 0, "B-X": 1, "I-X": 2, "U-X": 3}', "not a BILOU set"),
        (b'{"text": "a", "entities": []}', "ids are"),
    ],
)
def test_a_wrong_label_file_is_refused(tmp_path, content, found):
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"schema.json is not a label file: .*{found}.*; expected"):
        read_label_set(path)


def test_a_missing_label_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_label_set(tmp_path / "none.json")
