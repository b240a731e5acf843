import json
from datetime import UTC, date, datetime
from io import StringIO

import polars as pl
import pytest

from ecner.errors import UsageError
from ecner.storage.output import write_result

FRAME = pl.DataFrame({
    "name": ["华为", None, 'a,"b"\n'],
    "count": [1, 2, None],
    "share": [0.5, None, 1 / 3],
    "day": [date(2024, 1, 1), None, None],
    "at": [datetime(2024, 1, 1, tzinfo=UTC), None, None],
})  # fmt: skip


def test_csv_and_json_on_standard_output(capsys):
    write_result(FRAME, "csv")
    assert pl.read_csv(StringIO(capsys.readouterr().out), schema=FRAME.schema).equals(FRAME)
    write_result(FRAME, "json")
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == {
        "name": "华为", "count": 1, "share": 0.5, "day": "2024-01-01", "at": "2024-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert (rows[1]["name"], rows[1]["share"], rows[1]["at"]) == (None, None, None)


def test_parquet_needs_a_file(tmp_path):
    with pytest.raises(UsageError, match="--output"):
        write_result(FRAME, "parquet")
    write_result(FRAME, "parquet", tmp_path / "x.parquet")
    assert pl.read_parquet(tmp_path / "x.parquet").equals(FRAME)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_file_holds_what_standard_output_shows(tmp_path, capsys, form):
    write_result(FRAME, form)
    write_result(FRAME, form, tmp_path / "out")
    assert (tmp_path / "out").read_text("utf-8") == capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_table_is_not_cut_and_cannot_steer_a_terminal(capsys):
    long = "长" * 300
    write_result(pl.DataFrame({"[red]x": [long, "\x1b[31m[bold]red[/bold]\u202e"]}), "table")
    shown = capsys.readouterr().out
    assert long in shown
    assert "[red]x" in shown
    assert "[bold]red[/bold]" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "2 row(s)" in shown


def test_what_a_form_cannot_hold_is_said_and_leaves_the_old_file(tmp_path):
    (tmp_path / "x.csv").write_text("old")
    with pytest.raises(UsageError, match="cannot be written as csv"):
        write_result(pl.DataFrame({"x": [[1, 2]]}), "csv", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "old"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot write"):
        write_result(FRAME, "json", tmp_path / "no" / "x.json")
