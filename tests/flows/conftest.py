import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, and another for Prefect."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path / "work"
