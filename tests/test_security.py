"""What comes from outside, by settings or in data, can neither do harm nor make a secret known."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, quote_plus

import polars as pl
import pytest
import sqlalchemy as sa
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from ecner.config import LakeSettings, Section, Settings, load_settings, redacted
from ecner.errors import EcnerError, ModelError, UsageError
from ecner.forget import forget
from ecner.labels import TagSet
from ecner.lake import Lake
from ecner.model.checkpoint import base_name, build, encoder_config
from ecner.model.manifest import verify, write_manifest
from ecner.nightly.run import prepare
from ecner.nightly.scope import Selection
from ecner.registry import find, folder_of
from ecner.resources import resource
from ecner.retraining.run import prepare as prepare_retrain
from ecner.schema import TABLES
from ecner.storage.engine import open_engine, parse_url
from ecner.storage.query import run_query
from ecner.storage.views import view_names
from ecner.storage.warehouse import Warehouse
from ecner.training import run as training
from flows.runners import check_runner
from tests.commands import ROOT, complaint, invoke
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, train_tiny, write
from tests.s3 import BUCKET
from tests.tables import assert_equal_tables
from tests.tiny import VOCABULARY, as_base, tiny

NASTY = [
    'x"; drop table mentions; --',
    "x'; delete from mentions; --",
    ") as x; commit; drop table reviews; select * from (select 1 as review_id, 2 as text",
    "mentions; select",
    "../../etc/passwd",
    "%(x)s %s %% %",
    "{x} {0.__class__} ${HOME}",
    "a\nb",
    "“x” ‘y’ ＂; --",
    "--",
    "$(touch made) `touch made` | touch made",
    "<img src=x onerror=alert(1)>|`[x](y)",
    "\x1b]0;made\x07\u202e",
    ":x \\: \\",
    "[",
]
IMPOSSIBLE = ["a\0b", "n" * 300, "n" * 5000, "\udcff"]
_numbers = count()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def town(request, tmp_path_factory, model):
    """A house after a night, whose source and whose neighbours lie in the same database."""
    folder = tmp_path_factory.mktemp("town")
    server = request.getfixturevalue("postgresql_server") if request.param == "postgresql" else None
    house = House(folder, model, *((server.url(), server.new_schema()) if server else ()))
    for name in ("etc/passwd", "made up/precious.txt"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("precious\n")
    (folder / "a/b").mkdir(parents=True)
    house.night(write(folder / "reviews.parquet", make_reviews(30)))
    with open_engine(parse_url(house.url, None)).begin() as connection:
        connection.exec_driver_sql("drop table if exists reviews")
        connection.exec_driver_sql("create table reviews (review_id text, text text)")
        connection.exec_driver_sql("insert into reviews values ('R1', '小米手机')")
    return house


@pytest.fixture
def here(town, monkeypatch) -> Path:
    """A folder from which ../../etc/passwd leads to a file that is dear to somebody."""
    monkeypatch.chdir(town.folder / "a/b")
    return town.folder


def state(house: House) -> Any:
    """All that must stay as it is: tables, source, and files."""
    with open_engine(parse_url(house.url, None)).connect() as connection:
        source = connection.exec_driver_sql("select * from reviews").fetchall()
        names = sorted(sa.inspect(connection).get_table_names(house.schema))
    files = {name: (house.folder / name).read_bytes() for name in ("etc/passwd", "made up/precious.txt")}
    made = [path for path in house.folder.rglob("made") if path.is_file()]
    return source, names, files, made


def text_settings(section: type[Section] = Settings, above: str = "") -> Iterator[str]:
    """Settings that hold text or a path, in whatever form."""
    for name, field in section.model_fields.items():
        full = f"{above}{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from text_settings(field.annotation, f"{full}.")
        elif {str, Path, SecretStr} & set(leaves(field.annotation)):
            yield full


def leaves(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        return
    if isinstance(annotation, UnionType) or get_args(annotation):
        for part in get_args(annotation):
            yield from leaves(part)
    else:
        yield annotation


def plan_night(settings: Settings) -> None:
    prepare(settings, Selection())


def use_warehouse(settings: Settings) -> None:
    Warehouse(*settings.warehouse_at).migrate()
    assert run_query(*settings.warehouse_at, "mentions").width


def use_lake(settings: Settings) -> None:
    lake = Lake.open(settings.lake)
    lake.check()
    lake.write_bytes("runs/a", b"x")
    assert lake.names("runs") == ["runs/a"]
    lake.remove("runs")


def use_decoder(settings: Settings) -> None:
    size = encoder_config(size=16, layers=1, heads=2)
    build(TagSet.from_labels(["A"]), encoder=size, decoder=settings.train.decoder_base, vocabulary=VOCABULARY)


def use_address(settings: Settings) -> None:
    for runner in ("dask", "ray"):
        check_runner(settings.model_copy(update={"run": settings.run.model_copy(update={"runner": runner})}))


def use_launcher(settings: Settings) -> None:
    """What is started is a program with a list of arguments: no shell reads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.subprocess, "run", recorded := Recorder())
        training._launch(Path("folder"), settings.train)
    assert str(settings.train.launcher) in recorded.command
    assert "shell" not in recorded.options


class Recorder:
    def __call__(self, command: list[str], **options: Any) -> Any:
        self.command, self.options = command, options
        return subprocess.CompletedProcess(command, 0)


USES: dict[str, tuple[Any, list[str]]] = {
    "source.uri": (plan_night, ["{}", "sqlite:///{}", "s3://reviews/{}", "s3://{}/x", "postgresql://u@/{}"]),
    "source.endpoint": (plan_night, ["{}", "http://{}", "http://127.0.0.1:{}"]),
    "source.table": (plan_night, ["{}", "reviews.{}", "{}.reviews"]),
    "source.query": (
        plan_night,
        ["{}", "select review_id, text from reviews{}", "select '{}' as review_id from reviews"],
    ),
    **{f"source.columns.{name}": (plan_night, ["{}"]) for name in type(Settings().source.columns).model_fields},
    "source.watermark_column": (plan_night, ["{}"]),
    "source.time_zone": (plan_night, ["{}"]),
    "warehouse.url": (use_warehouse, ["{}", "sqlite:///{}", "postgresql://u@/{}", "sqlite:///x.db?plugin={}"]),
    "warehouse.schema": (use_warehouse, ["{}"]),
    "lake.uri": (use_lake, ["{}", "s3://{}/x", "s3://reviews/{}"]),
    "lake.endpoint": (use_lake, ["{}", "http://{}", "http://127.0.0.1:{}"]),
    "lake.cache": (lambda settings: folder_of(f"s3://{BUCKET}/security/{CACHED}", settings.lake), ["{}"]),
    "model.ref": (plan_night, ["{}", "s3://reviews/{}"]),
    "model.device": (plan_night, ["{}", "cuda:{}"]),
    "model.min_confidence": (plan_night, ['{{"{}": 0.5}}', "{}"]),
    "model.labels": (plan_night, ['{{"HPPX": "{}"}}', "{}"]),
    "model.lexicon": (plan_night, ["{}"]),
    "run.address": (use_address, ["{}", "ray://{}", "tcp://{}:1"]),
    "run.time_zone": (plan_night, ["{}"]),
    **{f"train.{name}": (prepare_retrain, ["{}"]) for name in ("train", "dev", "test", "labels", "base")},
    "train.launcher": (use_launcher, ["{}"]),
    "train.decoder_base": (use_decoder, ["{}"]),
}
OF_A_DATABASE = ("source.table", "source.query", "source.columns.text", "source.watermark", "warehouse")
CACHED = ""


def test_every_setting_of_text_is_attacked():
    assert set(text_settings()) == USES.keys()


@pytest.mark.parametrize("name", USES)
def test_names_in_settings(name, town, here, model, object_store, monkeypatch, tmp_path):
    """Each is refused with a message, or means a thing of that odd name; never anything else."""
    if town.database and not name.startswith(OF_A_DATABASE):
        pytest.skip("no matter of the database")
    if name == "lake.cache":
        monkeypatch.setattr(f"{__name__}.CACHED", in_bucket(object_store, tmp_path))
    use, forms = USES[name]
    before, tables = state(town), town.tables()
    for payload in (*NASTY, *IMPOSSIBLE):
        for form in forms:
            written = json.dumps(payload)[1:-1] if form.startswith("{{") else payload
            settings = base_settings(town, model, object_store, name, form.format(written))
            try:
                use(load_settings(settings, {f"ECNER_{name.upper().replace('.', '__')}": form.format(written)}))
            except EcnerError as error:
                assert str(error)  # noqa: PT017
            except Exception as error:
                error.add_note(f"{name}: {form.format(written)!r}")
                raise
    assert state(town) == before
    assert_equal_tables(town.tables(), tables)


def base_settings(town: House, model: Path, object_store: Any, name: str, value: str) -> Path:
    """A settings file under which the setting that is attacked comes to use."""
    of_database = name.startswith(OF_A_DATABASE) or value.startswith(("sqlite", "postgresql"))
    source = {"uri": town.url} if of_database else {"uri": str(town.folder / "reviews.parquet")}
    if of_database and name != "source.query":
        source |= {"table": "reviews"}
    if value.startswith("s3://") or name.endswith("endpoint"):
        source |= {"endpoint": object_store.endpoint} | ({} if name != "source.endpoint" else {"uri": "s3://reviews/x"})
    lake = {"uri": str(town.folder / "lake")} if name != "lake.endpoint" else {"uri": "s3://reviews/security"}
    values = {
        "source": source,
        "warehouse": {"url": town.url, "schema": None if value.startswith("sqlite:") else town.schema},
        "lake": lake | ({"endpoint": object_store.endpoint} if "s3://" in value or name == "lake.cache" else {}),
        "model": {"ref": str(model), "device": "cpu"},
    }
    path = town.folder / "settings.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def in_bucket(object_store: Any, folder: Path) -> str:
    """A version folder on the object store; returns its name."""
    made = as_base(tiny(), folder)
    return Lake.open(object_store.lake("security")).put_folder(made, made.name, last="manifest.json")


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
    with pytest.raises(UsageError, match="the query failed|no view or table"):
        run_query(*odd_house.address, NASTY[3])
    for name in NASTY[:5]:
        forget(odd_house.settings(url, source=source), name)
    assert set(odd_house.read("review_coverage")["review_id"]) == set(NASTY[5:])


def test_names_of_partitions(town, tmp_path):
    for name, row in zip(NASTY, make_reviews(len(NASTY)), strict=True):
        folder = tmp_path / f"source/product_id={quote(name, safe='')}"
        write(folder / "part.parquet", [{key: row[key] for key in ("review_id", "text", "created_at")}])
    house = House(tmp_path, town.model)
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


# Of what an address may hold that is not a letter, something in each; the middle is looked for.
PASSWORD, KEY, ASIDE = "a@:/?#%40+ sesame-4711 ü&=", "sesame-4712/+=", "sesame-4713"
SECRET = "sesame-47"  # noqa: S105
LOUD = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
import sqlalchemy, psycopg, alembic, ecner.nightly.run, ecner.cli
for name in list(logging.root.manager.loggerDict):
    logging.getLogger(name).setLevel(logging.DEBUG)
ecner.cli.main()
"""


@pytest.fixture(scope="module")
def locked(postgresql_server):
    """The database as a role that has to give its password."""
    admin = sa.create_engine(postgresql_server.admin.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        hba = Path(connection.exec_driver_sql("show hba_file").scalar_one())
        old = hba.read_text()
        hba.write_text(f"local all guarded scram-sha-256\n{old}")
        literal = PASSWORD.replace("'", "''")
        connection.exec_driver_sql(f"create role guarded login password '{literal}'".replace("%", "%%"))
        connection.exec_driver_sql("create schema guarded authorization guarded")
        connection.exec_driver_sql("create table guarded.reviews as select 'R1' as review_id, '小米手机' as text")
        connection.exec_driver_sql("grant select on guarded.reviews to guarded")
        connection.exec_driver_sql("select pg_reload_conf()")
        yield postgresql_server.admin.set(username="guarded", password=PASSWORD)
        hba.write_text(old)
        connection.exec_driver_sql("select pg_reload_conf()")
    admin.dispose()


@pytest.fixture
def secretive(locked, object_store, model, tmp_path, monkeypatch):
    """Settings of a night all of whose places take a secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    address = locked.render_as_string(hide_password=False)
    return {
        "source": {"uri": address, "table": "guarded.reviews"},
        "warehouse": {"url": address, "schema": "guarded"},
        "lake": {"uri": f"s3://{BUCKET}/secretive/{next(_numbers)}", "endpoint": object_store.endpoint},
        "model": {"ref": str(model), "device": "cpu"},
        "run": {"address": f"tcp://u:{ASIDE}@127.0.0.1:1"},
    }


def written(settings: dict[str, Any]) -> Path:
    path = Path("settings.yaml")
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")
    return path


def test_a_full_run_at_debug_level_tells_no_secret(secretive, locked, object_store):
    path = written(secretive)
    command = [sys.executable, "-c", LOUD, "extract", "--config", str(path), "--debug"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "DEBUG:" in ended.stderr
    assert "sqlalchemy.engine" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    assert_nowhere(secretive, locked, object_store)


def assert_nowhere(settings, locked, object_store):
    """No secret in any table or file."""
    lake = Lake.open(LakeSettings(**settings["lake"]))
    names = lake.names("tables") + lake.names("runs") + lake.names("readings")
    files = [repr(lake.read(name)) if name.endswith(".parquet") else str(lake.read_bytes(name)) for name in names]
    with Warehouse(locked.render_as_string(hide_password=False), "guarded").connect() as reader:
        tables = [repr(reader.read(name).to_dicts()) for name in TABLES]
    assert len(names) > 4
    assert "postgresql://guarded@" in "".join(tables)
    assert SECRET not in "".join(files + tables)


FAILURES = {
    "wrong password": ({"warehouse": {"url": "WRONG"}}, "password authentication failed"),
    "wrong password of the source": ({"source": {"uri": "WRONG"}}, "password authentication failed"),
    "wrong host": ({"warehouse": {"url": "postgresql://guarded:sesame-4714@127.0.0.1:1/x"}}, "connect"),
    "wrong driver": ({"warehouse": {"url": "nosuch://guarded:sesame-4714@127.0.0.1:1/x"}}, "expected a SQLAlchemy URL"),
    "no scheme": ({"warehouse": {"url": "guarded:sesame-4714@127.0.0.1:1/x"}}, "expected a SQLAlchemy URL"),
    "half a scheme": ({"warehouse": {"url": "postgresql:/guarded:sesame-4714@127.0.0.1:1/x"}}, "expected a SQLAlchemy URL"),
    "a bare @": ({"warehouse": {"url": "postgresql://guarded:pass@sesame-4714@127.0.0.1:1/x"}}, "several @"),
    "a bare /": ({"warehouse": {"url": "postgresql://guar/ded:sesame-4714@127.0.0.1:1/x"}}, "several @"),
    "a password apart": ({"warehouse": {"url": "postgresql://127.0.0.1:1/x?user=u&password=sesame-4714"}}, "connect"),
    "an unknown parameter": ({"warehouse": {"url": "postgresql://h/x?nosuch=1&password=sesame-4714"}}, "nosuch"),
    "as libpq has it": ({"warehouse": {"url": "host=127.0.0.1 user=u password='a sesame-4714' port=1"}}, "expected a SQL"),
    "a source as libpq has it": ({"source": {"uri": "host=127.0.0.1 password=sesame-4714", "table": None}}, "no Parquet"),
    "a source without a scheme": ({"source": {"uri": "u:sesame-4714@h/d", "table": None}}, "no Parquet"),
    "a source elsewhere": ({"source": {"uri": "https://u:sesame-4714@h/d"}}, "source.uri"),
    "no such table": ({"source": {"table": "nosuch"}}, "no table or view"),
    "a wrong query": ({"source": {"table": None, "query": "select 'sesame-4714' as review_id, from x"}}, "query failed"),
    "a query that fails late": (
        {"source": {"table": None, "query": "select review_id, (text || 'sesame-4714') as text from guarded.reviews "
                    "where 1 / (length(text) - length(text)) = 1"}}, "division by zero",
    ),
    "no endpoint": ({"lake": {"endpoint": "http://127.0.0.1:9"}}, "no store answers"),
    "an endpoint with a password": ({"lake": {"endpoint": "http://u:sesame-4714@127.0.0.1:9"}}, "another form"),
    "an endpoint with a token": ({"lake": {"endpoint": "http://127.0.0.1:9?token=sesame-4714"}}, "another form"),
    "a lake with a password": ({"lake": {"uri": "s3://key:sesame-4714@reviews/x"}}, "no store"),
    "a lake that is a database": ({"lake": {"uri": "postgresql://u:sesame-4714@h/d"}}, "lake.uri"),
    "another place": ({"warehouse": "postgresql://u:sesame-4714@h/d"}, "expected a section"),
    "another place as a key": ({"run": {"postgresql://u:sesame-4714@h/d": 1}}, "no such setting"),
    "a lexicon that is none": ({"model": {"lexicon": "secrets.yaml"}}, "cannot read the lexicon"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_no_failure_tells_a_secret(name, secretive, locked, caplog, monkeypatch):
    change, message = FAILURES[name]
    wrong = locked.set(password="sesame-4714").render_as_string(hide_password=False)  # noqa: S106
    for section, values in change.items():
        if isinstance(values, dict):
            secretive[section] |= {key: wrong if value == "WRONG" else value for key, value in values.items()}
        else:
            secretive[section] = values
    Path("secrets.yaml").write_text("a: 'sesame-4714\n  b: [\n")
    for logger in ("", "sqlalchemy.pool", "psycopg", "alembic", "ecner"):
        caplog.set_level("DEBUG", logger or None)
    result = invoke("extract", "--config", written(secretive), "--debug")
    assert result.exit_code in {1, 2}
    assert message in result.stderr
    shown = "".join((result.output, result.stderr, caplog.text))
    if name == "a query that fails late":  # tracebacks tell statements; the message and the ledger do not
        shown = result.stderr.splitlines()[-1]
    assert SECRET not in shown
    if name != "wrong password":
        secretive_url = locked.render_as_string(hide_password=False)
        assert SECRET not in repr(run_query(secretive_url, "guarded", "extraction_runs").to_dicts())


@given(
    user=st.text(max_size=5),
    password=st.text(min_size=4),
    before=st.text(max_size=10),
    after=st.text(max_size=10),
)
def test_no_password_of_any_url_is_shown(user, password, before, after):
    """As SQLAlchemy writes it, wherever it stands in a message, and however often it was looked at."""
    try:
        text = password.encode()
    except UnicodeEncodeError:
        assume(False)
    url = sa.URL.create("postgresql", user.encode(errors="ignore").decode(), password, "host", 1, "name")
    apart = sa.URL.create("postgresql", None, None, "host", 1, "name", {"user": "u", "password": password})
    spelled = {password, quote(text, safe=" +"), quote_plus(text)}
    assume(not any(word in f"{before}{after}postgresql://{url.username}:***@host:1/name?user=u&password=***"
                   for word in spelled))  # fmt: skip
    for address in (url, apart):
        message = f"{before} {address.render_as_string(hide_password=False)} {after}"
        shown = redacted(message)
        assert not any(word in shown for word in spelled)
        assert redacted(shown) == shown


def test_what_follows_a_hidden_password_stays():
    told = 'the warehouse postgresql://me%40here:***@h/d?password=*** failed: no role "me@here"'
    assert redacted(told) == told
    assert redacted(f"{told}; postgresql://u:{SECRET}@h") == f"{told}; postgresql://u:***@h"


# Each was looked at: what is formatted in is a number, a name that SQLAlchemy has quoted, a digest of ours, or the
# user's own SELECT, which one cursor takes and whose transaction only reads.
JUDGED = {"leave_them_to_us", "create_views", "_drop", "insert", "_try_query"}
_RUNS_SQL = {"text", "exec_driver_sql", "execute", "scalar", "copy", "literal_column", "DDL", "executescript"}
_BEGINS = ("select", "insert", "update ", "delete", "drop", "create", "alter", "copy ", "pragma", "grant", "with ")


def formatted_sql(tree: ast.AST) -> Iterator[str]:
    """Functions that make SQL out of pieces of text."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            own = [node for child in function.body for node in walk_within(child)]
            if any(is_formatted(node) for node in own):
                yield function.name


def walk_within(node: ast.AST) -> Iterator[ast.AST]:
    """Without functions inside, which stand for themselves."""
    if isinstance(node, ast.FunctionDef):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_within(child)


def is_formatted(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr(values=[ast.Constant(value=str() as begin), *_]):
            return begin.lower().lstrip().startswith(_BEGINS)
        case ast.Call(func=ast.Attribute(attr=name), args=[first, *_]) if name in _RUNS_SQL:
            return any(isinstance(part, ast.JoinedStr | ast.BinOp) for part in ast.walk(first))
    return False


def test_sql_is_formatted_nowhere_else():
    found = {
        name for path in (ROOT / "ecner/storage").glob("*.py") for name in formatted_sql(ast.parse(path.read_text()))
    }
    assert found == JUDGED
    for path in (*ROOT.glob("ecner/**/*.py"), *ROOT.glob("flows/*.py")):
        assert path.parent.name == "storage" or "sqlalchemy" not in path.read_text("utf-8"), path
    assert not [
        path for path in resource("sql/migrations").rglob("*.py") if [*formatted_sql(ast.parse(path.read_text()))]
    ]
