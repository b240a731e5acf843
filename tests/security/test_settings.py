"""Whatever a setting names: it is refused, or means a thing of that odd name; never anything else."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import pytest
import sqlalchemy as sa
import yaml
from pydantic import SecretStr

from ecner.config import Section, Settings, load_settings
from ecner.errors import EcnerError
from ecner.labels import TagSet
from ecner.lake import Lake
from ecner.model.checkpoint import build, encoder_config
from ecner.nightly.estimates import read_quality
from ecner.nightly.run import prepare
from ecner.nightly.scope import Selection
from ecner.registry import folder_of
from ecner.retraining.run import prepare as prepare_retrain
from ecner.storage.engine import open_engine, parse_url
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse
from ecner.training import run as training
from flows.runners import check_runner
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, write
from tests.s3 import BUCKET
from tests.security.names import IMPOSSIBLE, NASTY
from tests.tables import assert_equal_tables
from tests.tiny import VOCABULARY, as_base, tiny


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
def _here(town, monkeypatch):
    """A folder from which ../../etc/passwd leads to a file that is dear to somebody."""
    monkeypatch.chdir(town.folder / "a/b")


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


def use_evaluation(settings: Settings) -> None:
    warehouse = Warehouse(*settings.warehouse_at)
    warehouse.migrate()
    with warehouse.connect() as reader:
        assert read_quality(reader, settings.model.evaluated_on).is_empty()


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
    "source.uri": (
        plan_night,
        ["{}", "sqlite:///{}", "s3://reviews/{}", "s3://{}/x", "postgresql://u@/{}?host=SOCKET"],
    ),
    "source.endpoint": (plan_night, ["{}", "http://{}", "http://127.0.0.1:{}"]),
    "source.table": (plan_night, ["{}", "reviews.{}", "{}.reviews"]),
    "source.query": (
        plan_night,
        ["{}", "select review_id, text from reviews{}", "select '{}' as review_id from reviews"],
    ),
    **{f"source.columns.{name}": (plan_night, ["{}"]) for name in type(Settings().source.columns).model_fields},
    "source.watermark_column": (plan_night, ["{}"]),
    "source.time_zone": (plan_night, ["{}"]),
    "warehouse.url": (
        use_warehouse,
        ["{}", "sqlite:///{}", "postgresql://u@/{}?host=SOCKET", "sqlite:///x.db?plugin={}"],
    ),
    "warehouse.schema": (use_warehouse, ["{}"]),
    "lake.uri": (use_lake, ["{}", "s3://{}/x", "s3://reviews/{}"]),
    "lake.endpoint": (use_lake, ["{}", "http://{}", "http://127.0.0.1:{}"]),
    "lake.cache": (lambda settings: folder_of(f"s3://{BUCKET}/security/{CACHED}", settings.lake), ["{}"]),
    "model.ref": (plan_night, ["{}", "s3://reviews/{}"]),
    "model.device": (plan_night, ["{}", "cuda:{}"]),
    "model.min_confidence": (plan_night, ['{{"{}": 0.5}}', "{}"]),
    "model.labels": (plan_night, ['{{"HPPX": "{}"}}', "{}"]),
    "model.lexicon": (plan_night, ["{}"]),
    "model.evaluated_on": (use_evaluation, ['["{}"]']),
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


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("name", USES)
def test_names_in_settings(name, town, model, object_store, postgresql_server, monkeypatch, tmp_path):
    """Each is refused with a message, or means a thing of that odd name; never anything else."""
    if town.database and not name.startswith(OF_A_DATABASE):
        pytest.skip("no matter of the database")
    if name == "lake.cache":
        monkeypatch.setattr(f"{__name__}.CACHED", in_bucket(object_store, tmp_path))
    socket = str(postgresql_server.admin.query["host"])
    use, forms = USES[name][0], [form.replace("SOCKET", socket) for form in USES[name][1]]
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
