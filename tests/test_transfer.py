"""Version folders on an object store: uploaded once, fetched once, and never taken for whole where they are not."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from ecner.config import LakeSettings, LoraSettings
from ecner.errors import ModelError, RunError, UsageError
from ecner.lake import Lake
from ecner.model.checkpoint import STORED, Checkpoint, fingerprint
from ecner.model.lora import add_lora, save_lora
from ecner.model.manifest import MANIFEST, write_manifest
from ecner.registry import find, folder_of, register, resolve, resolve_in
from ecner.storage.warehouse import Warehouse
from ecner.transfer import fetch, upload
from tests.tiny import as_base, tiny


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """An adapter beside its base, as a training leaves them."""
    models = tmp_path_factory.mktemp("made") / "models"
    models.mkdir()
    base, checkpoint = as_base(tiny(), models), tiny()
    folder = models / "unfinished"
    save_lora(add_lora(checkpoint.tagger, LoraSettings(r=2)), folder, base=base.name, dtype=STORED)
    checkpoint.tagger.config.save_pretrained(folder)
    (folder / "version.json").write_text(json.dumps({"base": base.name, "merged": False}))
    return folder.rename(models / f"lora-{write_manifest(folder)}")


@pytest.fixture
def there(object_store, tmp_path):
    return object_store.lake(f"transfer/{tmp_path.name}", cache=tmp_path / "cache")


@pytest.fixture
def uri(there, made):
    return upload(Lake.open(there), made)


def identity(folder):
    return fingerprint(folder, decoder="viterbi", dtype="float32")


def elsewhere(settings, tmp_path):
    """The settings of another machine."""
    return settings.model_copy(update={"cache": tmp_path / "another"})


def test_a_version_is_uploaded_with_its_base_once(there, made, object_store):
    lake = Lake.open(there)
    assert upload(lake, made) == f"{there.uri}/models/{made.name}"
    files = {f"models/{folder.name}/{path.name}" for folder in made.parent.iterdir() for path in folder.iterdir()}
    assert set(lake.names("models")) == files
    object_store.requests.clear()
    upload(lake, made)
    assert {method for method, _ in object_store.requests} == {"HEAD"}


def test_a_folder_of_a_lake_here_stays_where_it_is(made, tmp_path):
    assert upload(Lake.open(LakeSettings(uri=str(tmp_path))), made) == str(made)
    assert not list(tmp_path.iterdir())


def test_an_upload_that_was_stopped_is_ended(there, made):
    lake = Lake.open(there)
    upload(lake, made)
    for name in (f"models/{made.name}/{MANIFEST}", f"models/{made.name}/config.json"):
        lake.remove(name)
    with pytest.raises(ModelError, match=f"there is no whole version folder at {there.uri}/models/{made.name}"):
        fetch(lake.place(f"models/{made.name}"), there)
    assert identity(fetch(upload(lake, made), there)) == identity(made)


def test_it_is_fetched_once_with_its_base_and_reads_the_same(there, uri, made, object_store):
    folder = folder_of(uri, there)
    assert folder == there.cache / "models" / made.name
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted(p.name for p in made.parent.iterdir())
    assert identity(folder) == identity(made)
    Checkpoint.load(folder)
    object_store.requests.clear()
    assert folder_of(uri + "/", there) == folder
    assert not object_store.requests


def test_it_need_not_lie_in_the_lake_of_today(there, uri, made, tmp_path):
    today = LakeSettings(uri=str(tmp_path / "lake"), endpoint=there.endpoint, cache=tmp_path / "cache")
    assert identity(fetch(uri, today)) == identity(made)


def test_half_of_all_requests_refused(there, made, object_store, tmp_path):
    with object_store.refusing():
        folder = fetch(upload(Lake.open(there), made), elsewhere(there, tmp_path))
    assert object_store.refused > 10
    assert identity(folder) == identity(made)


def test_several_fetch_at_once(there, uri, made):
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(folder_of, [uri] * 4, [there] * 4))
    assert set(folders) == {there.cache / "models" / made.name}
    assert identity(folders[0]) == identity(made)
    assert len(list(folders[0].parent.iterdir())) == 2


def test_another_that_was_quicker(there, uri, made, monkeypatch):
    get = Lake.get_folder

    def slow(lake, name, folder):
        got = get(lake, name, folder)
        shutil.copytree(got, there.cache / "models" / name)
        return got

    monkeypatch.setattr(Lake, "get_folder", slow)
    assert identity(fetch(uri, there)) == identity(made)


@pytest.mark.parametrize("name", ["version.json", "adapter_model.safetensors", MANIFEST])
def test_what_was_damaged_in_the_store_is_refused(name, there, uri, made):
    lake = Lake.open(there)
    content = bytearray(lake.read_bytes(f"models/{made.name}/{name}"))
    content[len(content) // 2] ^= 1
    lake.write_bytes(f"models/{made.name}/{name}", bytes(content))
    with pytest.raises(ModelError, match=uri):
        fetch(uri, there)
    assert not list((there.cache / "models").iterdir())


def test_a_base_that_is_gone(there, uri, made):
    lake = Lake.open(there)
    base = json.loads((made / "version.json").read_text())["base"]
    lake.remove(f"models/{base}")
    with pytest.raises(ModelError, match=f"no whole version folder at {there.uri}/models/{base}"):
        fetch(uri, there)


def test_a_base_that_leads_elsewhere(there, made, tmp_path):
    folder = tmp_path / "unfinished"
    shutil.copytree(made, folder)
    (folder / "version.json").write_text(json.dumps({"base": "../../etc", "merged": False}))
    folder = folder.rename(tmp_path / f"lora-{write_manifest(folder)}")
    lake = Lake.open(there)
    lake.put_folder(folder, f"models/{folder.name}", last=MANIFEST)
    with pytest.raises(ModelError, match=r"'\.\./\.\./etc' as its base: expected the name of a folder beside"):
        fetch(lake.place(f"models/{folder.name}"), there)


def test_a_cache_that_cannot_be_made(there, uri, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=rf"cannot fetch {uri} into {tmp_path}/file/models"):
        fetch(uri, there.model_copy(update={"cache": tmp_path / "file"}))


def test_a_registered_version_is_found_on_any_machine(there, uri, made, tmp_path):
    warehouse = Warehouse(f"sqlite:///{tmp_path}/warehouse.db")
    warehouse.migrate()
    with warehouse.begin() as transaction:
        register(transaction, resolve(uri, lake=there))
    other = elsewhere(there, tmp_path)
    with warehouse.connect() as reader:
        found = find(reader.read("model_versions"), made.name, other)
    assert (found.version, found.uri, found.folder) == (made.name, uri, other.cache / "models" / made.name)
    assert resolve_in((f"sqlite:///{tmp_path}/warehouse.db", None), made.name, other) == found
    Lake.open(there).remove(f"models/{made.name}")
    with warehouse.connect() as reader, pytest.raises(ModelError, match=f"no whole version folder at {uri}"):
        resolve(made.name, reader, there.model_copy(update={"cache": tmp_path / "third"}))


def test_an_address_that_is_none(there):
    with pytest.raises(UsageError, match="no model 's3://bucket'"):
        resolve("s3://bucket", lake=there)
