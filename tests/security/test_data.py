"""Names in data, in the registry and in the lake do no harm."""

import json
import shutil
from itertools import count
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
import sqlalchemy as sa
import yaml

from ecner.config import LakeSettings
from ecner.errors import ModelError, UsageError
from ecner.forget import forget
from ecner.lake import Lake
from ecner.model.checkpoint import base_name
from ecner.model.manifest import verify, write_manifest
from ecner.registry import find
from ecner.schema import TABLES
from ecner.storage.engine import open_engine, parse_url
from ecner.storage.query import run_query
from ecner.storage.views import view_names
from tests.commands import complaint, invoke
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, write
from tests.security.names import IMPOSSIBLE, NASTY

_numbers = count()


@pytest.fixture
def lexicon(tmp_path):
    path = tmp_path / "lexicon.yaml"
    path.write_text(yaml.safe_dump({NASTY[0]: {NASTY[1]: ["小米", NASTY[2]]}}, allow_unicode=True), "utf-8")
    return path


@pytest.fixture
def odd_house(place, tmp_path, model):
    """One whose model has a name that is SQL, and leads up."""
    folder = tmp_path / 'x"; drop table mentions; -- %(x)s {x}'
    shutil.copytree(model, folder / "model'; --\x1b]0;made\x07")
    return House(folder, next(folder.iterdir()), *place)


def odd_reviews() -> list[dict[str, Any]]:
    return [{**row, "review_id": name, "product_id": name, "text": f"{row['text']}小米{name}"}
            for row, name in zip(make_reviews(len(NASTY)), NASTY, strict=True)]  # fmt: skip


def test_a_night_in_which_all_names_are_odd(odd_house, lexicon, tmp_path):
    """Table, columns, ids, products, texts, labels, model: what looks like SQL is a name like any other."""
    rows = odd_reviews()
    ours = ["review_id", "text", "product_id", "updated_at"]
    theirs = dict(zip(ours, (NASTY[0], NASTY[1], NASTY[3], NASTY[5]), strict=True))
    kinds = {"updated_at": sa.DateTime(timezone=True)}
    columns = [sa.Column(theirs[name], kinds.get(name, sa.Text())) for name in ours]
    url = odd_house.url if odd_house.database.startswith("postgresql") else f"sqlite:///{tmp_path}/source.db"
    with open_engine(parse_url(url, None)).begin() as connection:
        table = sa.Table(f"{NASTY[1]} {next(_numbers)}", sa.MetaData(), *columns)
        table.create(connection)
        connection.execute(sa.insert(table), [{theirs[name]: row[name] for name in ours} for row in rows])
    source = {"table": table.name, "columns": theirs, "watermark_column": theirs["updated_at"]}
    labels = dict(zip(["HPPX", "HCCX", "XH", "MISC"], NASTY, strict=False))
    model = {"labels": labels, "min_confidence": {NASTY[0]: 0.0}, "lexicon": str(lexicon)}
    for _ in range(2):
        report = odd_house.night(url, source=source, model=model)
        assert NASTY[12] not in report.to_text()
    with open_engine(parse_url(url, None)).connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == len(rows)
    assert set(odd_house.read("review_coverage")["review_id"]) == set(NASTY)
    assert set(odd_house.read("review_coverage")["product_id"]) == set(NASTY)
    assert set(odd_house.read("mentions")["entity_type"]) <= set(NASTY)
    assert " ".join(NASTY[1].split()) in set(odd_house.read("entity_daily")["canonical"])
    for view in view_names():
        assert run_query(*odd_house.address, view).width
    with pytest.raises(UsageError, match=r"the query failed|no view or table"):
        run_query(*odd_house.address, NASTY[3])
    for name in NASTY[:5]:
        forget(odd_house.settings(url, source=source), name)
    assert set(odd_house.read("review_coverage")["review_id"]) == set(NASTY[5:])


def test_names_of_partitions(model, tmp_path):
    for name, row in zip(NASTY, make_reviews(len(NASTY)), strict=True):
        folder = tmp_path / f"source/product_id={quote(name, safe='')}"
        write(folder / "part.parquet", [{key: row[key] for key in ("review_id", "text", "created_at")}])
    house = House(tmp_path, model)
    house.night(tmp_path / "source")
    assert set(house.read("review_coverage")["product_id"]) == set(NASTY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "source", "warehouse.db"]


@pytest.mark.parametrize("review_id", ["", " \n", "a\0b", "\udcff"])
def test_an_id_that_no_review_has(review_id, tmp_path, model):
    house = House(tmp_path, model)
    with pytest.raises(UsageError, match="no review has the id"):
        forget(house.settings(""), review_id)
    assert house.files() == []


ELSEWHERE = [
    *NASTY, *IMPOSSIBLE[:3], "..", "../../..", "/", "/etc", "/etc/passwd", "s3://", "s3://unset", "s3://unset/x", "s3://reviews/..",
    "s3://reviews/a/../b-0123456789ab", "s3://reviews/.hidden", "s3://reviews/a\\..\\b", "s3://u:pw@reviews/x", "file:///etc",
    "http://127.0.0.1/x",
]  # fmt: skip


@pytest.mark.parametrize("uri", ELSEWHERE)
def test_a_registry_whose_addresses_lead_elsewhere(uri, object_store, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    row = {"version": uri, "status": "champion", "uri": uri}
    versions = pl.DataFrame([dict.fromkeys(TABLES["model_versions"].polars_schema) | row])
    lake = LakeSettings(uri="lake", endpoint=object_store.endpoint, cache=tmp_path / "cache")
    with pytest.raises((ModelError, UsageError)) as raised:
        find(versions, "champion", lake)
    assert "pw" not in str(raised.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", [*NASTY[4:5], *IMPOSSIBLE, "..", ".", "", ".x", "/etc", "a/b", "a\\b"])
def test_a_version_whose_base_leads_elsewhere(name, tmp_path):
    (tmp_path / "version.json").write_text(json.dumps({"base": name}))
    with pytest.raises(ModelError, match="expected the name of a folder beside"):
        base_name(tmp_path)


def test_a_manifest_that_names_files_elsewhere(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "precious").write_text("x")
    write_manifest(folder)
    (folder / "manifest.json").write_text(json.dumps({"../precious": "0" * 64}, indent=1, sort_keys=True) + "\n")
    with pytest.raises(ModelError, match=r"missing: \.\./precious"):
        verify(folder)


def test_links_in_a_lake_are_read_but_never_removed_through(tmp_path):
    """Who puts a link there wants files to lie elsewhere; what is removed is the link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    lake = Lake.open(LakeSettings(uri=str(tmp_path / "lake")))
    lake.write_bytes("runs/a/b", b"")
    for name in ("runs/a/link", "runs/link"):
        (tmp_path / "lake" / name).symlink_to(outside)
    assert lake.read_bytes("runs/link/precious") == b"x"
    for name in ("runs/link", "runs/a", "runs"):
        lake.remove(name)
    assert (outside / "precious").read_bytes() == b"x"
    assert list((tmp_path / "lake").iterdir()) == []


def test_what_others_put_into_a_lake(tmp_path):
    """Files whose names could lead out of a lake on another system are none of ours."""
    lake = Lake.open(LakeSettings(uri=str(tmp_path)))
    for name in (*NASTY, "a\\..\\b"):
        if "/" not in name:
            (tmp_path / "runs" / name / "rows").mkdir(parents=True)
            (tmp_path / "runs" / name / "rows/x").touch()
    ours = sorted(name for name in NASTY if not {"/", "\\"} & {*name})
    assert [entry.name for entry in lake.entries("runs")] == ours
    assert lake.names("runs") == sorted(f"runs/{name}/rows/x" for name in ours)


def test_no_message_steers_a_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["models", "show", NASTY[12]], ["query", NASTY[12]], ["query", "--describe", NASTY[12]]):
        result = invoke(*arguments)
        assert not {"\x1b", "\x07", "\u202e"} & {*complaint(result)}
