import json

import pytest

from ecner import registry, resources
from ecner.config import Address
from ecner.errors import ModelError, UsageError
from ecner.registry import find, register, resolve, resolve_in
from ecner.resources import asset
from ecner.storage.warehouse import Warehouse
from tests.tiny import tiny

FIGURES = {
    "base": "an encoder",
    "data_fingerprint": "0123",
    "evaluations": [
        {"dataset": "titles", "metric": "strict_f1", "entity_type": "all", "value": 1, "support": 12},
        {"dataset": "titles", "metric": "strict_f1", "entity_type": "brand", "value": 0.5, "support": 6},
        {"dataset": "titles", "metric": "token_accuracy", "entity_type": "all", "value": 0.25},
    ],
}


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """The package's assets, with a small shipped model among them."""
    folder = tmp_path / "assets"
    save(folder / "model", seed=0)
    (folder / "model/version.json").write_text(json.dumps(FIGURES))
    monkeypatch.setattr(registry, "asset", folder.joinpath)
    return folder


@pytest.fixture
def warehouse(tmp_path):
    made = Warehouse(f"sqlite:///{tmp_path}/warehouse.db")
    made.migrate()
    return made


def save(folder, seed):
    tiny("bert-crf", seed=seed).save(folder)
    return folder


def registered(warehouse, *refs: str):
    """Versions and their status after registering some models, one transaction each."""
    for ref in refs:
        with warehouse.begin() as transaction:
            register(transaction, resolve(ref))
    with warehouse.connect() as reader:
        return dict(reader.read("model_versions", columns=["version", "status"]).iter_rows())


def test_assets_lie_in_the_package():
    assert asset("sample/reviews.parquet").is_file()
    assert resources.resource("sql/views").is_dir()
    with pytest.raises(FileNotFoundError, match="reinstall"):
        resources.resource("sql/nosuch")


@pytest.mark.parametrize("ref", ["default", "champion"])
def test_without_a_warehouse_the_shipped_model_is_the_champion(ref, assets):
    model = resolve(ref)
    assert (model.folder, model.uri) == (assets / "model", "default")
    assert model.version.startswith("shipped-")


def test_a_folder_is_named_after_its_weights(assets, tmp_path):
    one, same, other = (save(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert resolve(str(one)) == resolve(str(one / ".." / "a"))
    names = {resolve(str(folder)).version for folder in (one, same, other)}
    assert {name[:2] for name in names} == {"a-", "b-", "c-"}
    assert len({name[2:] for name in names}) == 2


def test_an_unknown_reference(assets, tmp_path, warehouse):
    with pytest.raises(UsageError, match=r"expected default, champion, a version id .* or a model folder"):
        resolve("nosuch")
    with warehouse.connect() as reader, pytest.raises(UsageError, match="no model 'nosuch'"):
        resolve("nosuch", reader)
    with pytest.raises(ModelError, match=r"expected model\.safetensors"):
        resolve(str(tmp_path))


def test_an_incomplete_installation(assets):
    (assets / "model/model.safetensors").unlink()
    with pytest.raises(ModelError, match="is not a model folder"):
        resolve("default")


def test_the_first_shipped_model_becomes_champion_with_its_figures(assets, warehouse):
    shipped = resolve("default")
    assert registered(warehouse, "default") == {shipped.version: "champion"}
    with warehouse.connect() as reader:
        version = reader.read("model_versions").row(0, named=True)
        figures = reader.read("model_evaluations", order_by=["metric", "entity_type"]).to_dicts()
        assert resolve("champion", reader) == resolve("default", reader) == resolve(shipped.version, reader) == shipped
    assert (version["base"], version["data_fingerprint"], version["uri"]) == ("an encoder", "0123", "default")
    assert (version["architecture"], version["parent"]) == ("bert-crf", None)
    expected = [{"version": shipped.version, "support": None, **row} for row in FIGURES["evaluations"]]
    assert figures == expected


def test_registering_twice_changes_nothing(assets, warehouse):
    registered(warehouse, "default")
    with warehouse.connect() as reader:
        before = reader.read("model_versions"), reader.read("model_evaluations")
    registered(warehouse, "default", "champion")
    with warehouse.connect() as reader:
        assert before[0].equals(reader.read("model_versions"))
        assert before[1].equals(reader.read("model_evaluations"))


def test_a_warehouse_that_is_looked_at_is_not_made(assets, tmp_path):
    url = f"sqlite:///{tmp_path}/none/warehouse.db"
    assert resolve_in(Address(url), "champion") == resolve("default")
    with pytest.raises(UsageError, match="no model 'nosuch'"):
        resolve_in(Address(url), "nosuch")
    Warehouse(f"sqlite:///{tmp_path}/empty.db").migrate()
    assert resolve_in(Address(f"sqlite:///{tmp_path}/empty.db"), "champion") == resolve("default")
    assert not (tmp_path / "none").exists()


def test_a_folder_becomes_a_candidate_and_is_found_by_its_version(assets, warehouse, tmp_path):
    url = f"sqlite:///{tmp_path}/warehouse.db"
    folder = save(tmp_path / "own", seed=3)
    own = resolve(str(folder))
    assert registered(warehouse, "default", str(folder)) == {
        resolve("default").version: "champion",
        own.version: "candidate",
    }
    with warehouse.connect() as reader:
        assert resolve(own.version, reader) == resolve_in(Address(url), own.version) == own
        assert resolve("champion", reader).uri == "default"
        assert reader.read("model_evaluations", where={"version": own.version}).is_empty()


def test_a_folder_that_comes_first_leaves_the_shipped_model_champion(assets, warehouse, tmp_path):
    folder = save(tmp_path / "own", seed=3)
    assert set(registered(warehouse, str(folder)).values()) == {"candidate"}
    with warehouse.connect() as reader:
        assert resolve("champion", reader).uri == "default"
    assert sorted(registered(warehouse, "champion").values()) == ["candidate", "champion"]


def test_a_new_shipped_model_never_reads_under_the_old_one_s_name(assets, warehouse):
    old = resolve("default").version
    registered(warehouse, "default")
    save(assets / "model", seed=9)
    new = resolve("default").version
    assert new != old
    with warehouse.connect() as reader:
        assert resolve("champion", reader).version == new
        with pytest.raises(ModelError, match=f"the weights of {old} are gone"):
            resolve(old, reader)
    assert registered(warehouse, "champion") == {old: "archived", new: "champion"}


def test_a_promoted_model_stays_champion_when_a_new_one_is_shipped(assets, warehouse, tmp_path):
    own = resolve(str(save(tmp_path / "own", seed=3)))
    registered(warehouse, str(own.folder))
    with warehouse.begin() as transaction:
        transaction.update("model_versions", {"version": own.version}, {"status": "champion"})
    assert registered(warehouse, "default")[own.version] == "champion"
    with warehouse.connect() as reader:
        assert resolve("champion", reader) == find(reader.read("model_versions"), "champion") == own


def test_a_folder_whose_weights_changed_is_not_the_version_that_was_registered(assets, warehouse, tmp_path):
    folder = save(tmp_path / "own", seed=3)
    version = resolve(str(folder)).version
    registered(warehouse, str(folder))
    save(folder, seed=4)
    with warehouse.connect() as reader, pytest.raises(ModelError, match=f"the weights of {version} are gone"):
        resolve(version, reader)
    (folder / "model.safetensors").unlink()
    with warehouse.connect() as reader, pytest.raises(ModelError, match="is not a model folder"):
        resolve(version, reader)


@pytest.mark.parametrize("name", ["version.json", "config.json"])
def test_a_broken_card_enters_nothing(name, assets, warehouse):
    (assets / "model" / name).write_text("{oops")
    with pytest.raises(ModelError, match=name), warehouse.begin() as transaction:
        register(transaction, resolve("default"))
    with warehouse.connect() as reader:
        assert reader.read("model_versions").is_empty()


def test_an_installation_that_was_set_back_leads_again(assets, warehouse):
    old = resolve("default").version
    registered(warehouse, "default")
    save(assets / "model", seed=9)
    new = resolve("default").version
    registered(warehouse, "default")
    save(assets / "model", seed=0)
    assert resolve("default").version == old
    assert registered(warehouse, "default") == {old: "champion", new: "archived"}


def test_a_promotion_that_was_entered_meanwhile_stands(assets, warehouse, tmp_path):
    own, shipped = resolve(str(save(tmp_path / "own", seed=3))), resolve("default")
    registered(warehouse, "default", str(own.folder))
    with warehouse.begin() as transaction:
        known = transaction.read("model_versions")
        transaction.update("model_versions", {"version": shipped.version}, {"status": "archived"})
        transaction.update("model_versions", {"version": own.version}, {"status": "champion"})
        assert not registry._takes_the_lead(transaction, known, shipped)
    with warehouse.connect() as reader:
        assert resolve("champion", reader) == own
