"""The built package carries all that a run needs, and runs from a folder that has nothing of the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ecner.storage.query import run_query

ROOT = Path(__file__).parents[2]
PARTS = ("ecner", "flows", "sql", "configs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as building leaves files behind; with the backend that is installed, so without a network."""
    checkout, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("built")
    for part in PARTS:
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, checkout)
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", built, checkout)
    return next(built.glob("*.whl"))


def run(*arguments: object, **where: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True, **where)  # type: ignore[call-overload]


def test_it_carries_the_flows_the_model_the_sample_the_migrations_the_views_and_the_settings(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for part in PARTS for path in (ROOT / part).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for file in files:
        name = str(file.relative_to(ROOT))
        assert {name, f"ecner/_resources/{name}"} & names, name
    assert not [name for name in names if name.startswith(("tests/", "sql/", "configs/"))]


def test_it_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ECNER_")}
    environment |= {"PYTHONPATH": str(tmp_path / "site")}
    code = f"import ecner, runpy, sys; assert ecner.__file__.startswith({str(tmp_path)!r}), ecner.__file__; "
    code += "sys.argv = ['ecner', 'extract']; runpy.run_module('ecner.cli', run_name='__main__')"
    run("-c", code, cwd=tmp_path / "work", env=environment)
    covered = run_query(
        f"sqlite:///{tmp_path}/work/ecner-data/sample.db", None, "select count(*) as n from review_coverage"
    )
    assert covered["n"].item() >= 300
