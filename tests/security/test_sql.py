"""SQL is made out of text nowhere but where it was looked at."""

import ast
from collections.abc import Iterator

from ecner.resources import resource
from tests.commands import ROOT

# Each was looked at: what is formatted in is a number, a name that SQLAlchemy has quoted, a digest of ours, or the
# user's own SELECT, which one cursor takes and whose transaction only reads.
JUDGED = {"leave_them_to_us", "create_views", "_drop", "insert", "_try_query"}
# Of the report: days, as dates write themselves, and our own names of views, periods and types.
JUDGED_FIGURES = {"_day", "_of_days", "_of_categories", "_of_entities", "_ranked"}
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
    figures = (ROOT / "ecner/nightly/figures.py").read_text("utf-8")
    assert {*formatted_sql(ast.parse(figures))} == JUDGED_FIGURES
    for path in (*ROOT.glob("ecner/**/*.py"), *ROOT.glob("flows/*.py")):
        assert path.parent.name == "storage" or "sqlalchemy" not in path.read_text("utf-8"), path
    assert not [
        path for path in resource("sql/migrations").rglob("*.py") if [*formatted_sql(ast.parse(path.read_text()))]
    ]
