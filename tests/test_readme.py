"""Every command of README is run, in README's order, in one folder that holds what they read."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ecner.nightly.copies import COPIED, PERIODS_COPIED
from ecner.resources import asset
from ecner.storage.query import run_query
from tests.questions import as_shown, ask_copies, ask_warehouse, read_questions

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
# The first block is what .ci/run types; the suite does not run itself; the full-size night needs a folder of reviews.
ELSEWHERE = (
    *COMMANDS[:2],
    "python -m pytest -m slow",
    "python -m tests.bench.night REVIEWS_FOLDER",
    "python -m tests.bench.retrain LABELLED_FOLDERS",
    "python -m tests.bench.scale REVIEWS_FOLDER",
    "python -m tests.ablation small SHARED_FOLDER WORK_FOLDER",  # tests/ablation
    "python -m tests.release.speed REVISION",
    "python -m tests.release.make SHARED_FOLDER WORK_FOLDER",
    "python -m tests.bench.duplicates REVIEWS_FOLDER",
    "python -m tests.bench.linking LABELLED_FILES",
    "python -m tests.bench.relink",
    "python -m tests.bench.page FOLDER",  # needs a browser
    "python -m tests.soak.storm",
    "python -m tests.soak.prefect_storm",
    "ecner forget REVIEW_ID",  # tests/test_cli.py
    "ecner models promote VERSION",  # tests/test_cli.py, as the one below
    "ecner models rollback",
    "ecner link accept brand lenovo 联想 --by ann",  # tests/linking, as the one below
    "ecner link reject brand 联想 联通",
    # tests/flows
    *(command for command in COMMANDS if re.search(r"PREFECT_API_URL|^prefect |ray start|^dask ", command)),
)
SLOW = re.compile(
    "ecner bench|ecner retrain|ecner evaluate|ecner extract --full|python -m flows|python -m tests.bench.viterbi"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as README's reader may have it: some reviews, some texts, some labels, and the checkout's files."""
    place = tmp_path_factory.mktemp("readme")
    (place / "reviews").mkdir()
    pl.read_parquet(asset("sample/reviews.parquet")).head(12).write_parquet(place / "reviews" / "part-0.parquet")
    (place / "reviews.txt").write_text("联想的键盘不错\n\n屏幕太小\n", "utf-8")
    labelled = asset("sample/reviews.jsonl").read_text("utf-8").splitlines(keepends=True)
    (place / "train.jsonl").write_text("".join(labelled[:8]), "utf-8")
    (place / "dev.jsonl").write_text("".join(labelled[8:12]), "utf-8")
    (place / "test.jsonl").write_text("".join(labelled[12:16]), "utf-8")
    shipped = place / "ecner/assets/sample"
    shipped.mkdir(parents=True)
    shutil.copy(asset("sample/reviews.jsonl"), shipped)
    few = "ECNER_SOURCE__URI=reviews ECNER_WAREHOUSE__URL=sqlite:///ecner-data/sample.db"
    run(f"{few} ecner extract", place)  # what the first command leaves behind, in small
    return place


def run(command: str, folder: Path) -> str:
    """Standard output of a command that must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ECNER_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "prefect"),
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] if SLOW.search(command) else [])
        for command in COMMANDS
        if command not in ELSEWHERE
    ],
)
def test_a_command_does_what_it_says(command: str, folder: Path) -> None:
    printed = run(command, folder)
    assert printed.strip() or "--output" in command, "it printed nothing"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a night has read the shipped sample."""
    place = tmp_path_factory.mktemp("sample")
    run("ecner extract", place)
    return place


def test_the_ten_questions_have_these_answers(sample: Path) -> None:
    questions = read_questions(README)
    assert len(questions) == 10
    for question in questions:
        found = ask_warehouse(f"sqlite:///{sample}/ecner-data/sample.db", question)
        assert as_shown(found) == question.shown, question.text
        assert as_shown(ask_copies(README, sample, question)) == question.shown, question.text


def test_the_copies_open_as_they_are(sample: Path) -> None:
    for table in (*COPIED, *PERIODS_COPIED):
        rows = run_query(f"sqlite:///{sample}/ecner-data/sample.db", None, table)
        copied = pl.scan_parquet(f"{sample}/ecner-data/lake/sample/{table}/").collect()
        assert set(copied.columns) == set(rows.columns)
        assert len(copied) == len(rows) > 0


def test_the_first_block_is_the_two_commands() -> None:
    assert COMMANDS[0].endswith("python -m flows.extract")
    assert COMMANDS[1].endswith("python -m pytest")


def test_every_file_that_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_it_names_every_view_and_every_rule() -> None:
    for view in (ROOT / "sql/views").glob("*.sql"):
        assert f"`{view.stem}`" in README, view.stem
    rules = re.findall(r'_Rule\(\s*"(\w+)"', (ROOT / "ecner/nightly/rows.py").read_text("utf-8"))
    for rule in {*rules, "repeated_id"}:
        assert f"`{rule}`" in README, rule
    annotations = (ROOT / "ecner/retraining/annotations.py").read_text("utf-8")
    found = set(re.findall(r'"((?:no|unknown|changed|blank|nul|bad|missing)_\w+|overlap)"', annotations))
    assert len(found) == 10
    for rule in found:
        assert f"`{rule}`" in README, rule
