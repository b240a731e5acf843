"""ecner link: what it prints, and what it says where nothing can be done."""

from getpass import getuser

import polars as pl
import pytest

from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse
from tests.commands import complaint, invoke
from tests.linking.spans import publish_mentions, publish_spans


@pytest.fixture
def there(new_place, tmp_path, monkeypatch):
    """A warehouse by settings, and a folder to work in."""
    place = new_place("sqlite")
    warehouse = Warehouse(*place)
    warehouse.migrate()
    publish_spans(warehouse, seed=5)
    publish_mentions(warehouse)
    (tmp_path / "lexicon.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECNER_WAREHOUSE__URL", place[0])
    monkeypatch.setenv("ECNER_MODEL__LEXICON", "lexicon.yaml")
    return place


def test_suggest_decide_and_take_back(there, tmp_path):
    result = invoke("link", "suggest", "--format", "csv", "--output", "queue.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    queue = pl.read_csv(tmp_path / "queue.csv")
    assert ("brand", "lenovo", "lenove") in queue.select("entity_type", "alias", "canonical").rows()
    strict = invoke("link", "suggest", "--least-score", "1", "--format", "csv")
    assert 1 < len(strict.stdout.splitlines()) < 1 + len(queue)
    result = invoke("link", "accept", "brand", "LENOVE", "lenovo", "--by", "ann")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "brand lenove is counted as lenovo, says ann; 1 day(s) computed anew\n"
    result = invoke("link", "reject", "brand", "lenovo", "lenove")
    assert result.stdout == f"brand lenovo is not lenove, says {getuser()}; 1 day(s) computed anew\n"
    assert run_query(*there, "link_history").sort("decision_no")["decided_by"].to_list() == ["ann", getuser()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["accept", "brand", "lenovo", "nowhere"], "no brand is counted as 'nowhere'"),
        (["accept", "brand", "lenovo", "Lenovo"], "are one name already, 'lenovo'"),
        (["accept", "brand", "lenovo", "\udcff"], "got '\\udcff' as the name: expected printable text"),
        (["accept", "brand", "lenovo", "lenove", "--by", ""], "got '' as the name of who decides"),
        (["accept", "brand", "lenovo", "lenove", "--by", "ann\nbob"], "got 'ann\\nbob' as the name of who decides"),
        (["reject", "", "lenovo", "lenove"], "got '' as the entity type"),
    ],
)
def test_what_cannot_be_done(there, arguments, message):
    result = invoke("link", *arguments)
    assert result.exit_code == 2
    assert message in complaint(result)
    assert run_query(*there, "link_decisions").is_empty()


@pytest.mark.parametrize("arguments", [["suggest"], ["accept", "brand", "a", "b"], ["reject", "brand", "a", "b"]])
def test_without_a_warehouse(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = invoke("link", *arguments)
    assert result.exit_code == 2
    assert "there is no warehouse" in complaint(result)
    assert not list(tmp_path.iterdir())


def test_a_user_without_a_name_has_to_say_who_decides(there, monkeypatch):
    def nameless():
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    result = invoke("link", "accept", "brand", "lenove", "lenovo")
    assert result.exit_code == 2
    assert "say with --by who decides" in complaint(result)
