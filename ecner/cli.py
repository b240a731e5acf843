"""Commands. Each is a thin shell over one function; heavy packages are imported inside the command that needs them."""

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from ecner.config import Settings, load_settings, redacted
from ecner.errors import EcnerError, RunError, UsageError

if TYPE_CHECKING:
    from ecner.inference.reader import Reader
    from ecner.nightly.scope import Selection

PLAIN: Any = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
app = typer.Typer(
    no_args_is_help=True,
    help="Tables of the brands, products and model numbers in Chinese reviews.\n\n\b\nExample: ecner extract",
    **PLAIN,
)
models = typer.Typer(
    no_args_is_help=True, help="The model registry of the warehouse.\n\n\b\nExample: ecner models list"
)
app.add_typer(models, name="models")
link = typer.Typer(
    no_args_is_help=True, help="Names that may be one entity, and decisions on them.\n\n\b\nExample: ecner link suggest"
)
app.add_typer(link, name="link")


Decoder = Literal["viterbi", "beam"]
Form = Literal["table", "csv", "json", "parquet"]
Preset = Literal["small", "base"]

ConfigOption = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings.")]
FromOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First review date, inclusive.")
]
ToOption = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last review date, inclusive.")]
FullOption = Annotated[
    bool, typer.Option("--full", help="Look at every review, and read anew what another model read.")
]
TrainOption = Annotated[
    list[Path] | None,
    typer.Option("--train", help="Labelled texts to train on, over train.train; may be given more than once."),
]
DevOption = Annotated[
    list[Path] | None, typer.Option("--dev", help="Labelled texts that choose the best epoch, over train.dev.")
]
TestOption = Annotated[
    list[Path] | None, typer.Option("--test", help="Labelled texts to judge by, over train.test; else those of dev.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the libraries' own messages.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="default, champion, a version id or a folder; model.ref if not given."),
]
DecoderOption = Annotated[
    Decoder | None, typer.Option("--decoder", help="viterbi or beam; model.decoder if not given.")
]
EntityTypeArgument = Annotated[str, typer.Argument(help="brand, product, model_number, misc, or a label of your own.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decides; the user of this system if not given.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")]


@app.command()
def extract(
    config: ConfigOption = None,
    first: FromOption = None,
    last: ToOption = None,
    full: FullOption = False,
    debug: DebugOption = False,
) -> None:
    """One night by plain calls, without Prefect.

    \b
    Example: ecner extract --config nightly.yaml --from 2026-11-01 --to 2026-11-07
    """
    with user_errors(debug=debug):
        from ecner.nightly.run import prepare, run_night

        settings = load_settings(config)
        if settings.run.runner != "local":
            typer.echo(f"run.runner is {settings.run.runner}, for python -m flows.extract: this reads here", err=True)
        night = prepare(settings, make_selection(first, last, full=full))
        typer.echo(run_night(night, progress=_progress, page=True).to_text())


@app.command()
def report(
    first: FromOption = None,
    last: ToOption = None,
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("report.html"),
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """What the tables say, as one HTML page that needs nothing else; of the last eight weeks if no dates are given.

    \b
    Example: ecner report --from 2026-11-01 --to 2026-11-30 --out november.html
    """
    with user_errors(debug=debug):
        from ecner.data.files import write_whole
        from ecner.nightly.page import make_page

        days = make_selection(first, last, full=False)
        page = make_page(load_settings(config).warehouse_at, days.first, days.last).encode()
        write_whole(out, page)
        typer.echo(_shown(f"{out}: {len(page):,} bytes"))


@app.command()
def retrain(
    config: ConfigOption = None,
    train_files: TrainOption = None,
    dev_files: DevOption = None,
    test_files: TestOption = None,
    debug: DebugOption = False,
) -> None:
    """One retrain by plain calls, without Prefect: trains a challenger, compares it with the champion, and decides.

    A challenger that fails the gate stays a candidate; the exit status is 0 all the same. Run again after a stop, it
    goes on where it was.

    \b
    Example: ecner retrain --train train.jsonl --dev dev.jsonl --test test.jsonl
    """
    with user_errors(debug=debug):
        from ecner.retraining.run import prepare, run_retrain

        settings = with_labels(load_settings(config), train_files, dev_files, test_files)
        typer.echo(run_retrain(prepare(settings), tell=partial(typer.echo, err=True)).to_text())


@app.command()
def forget(
    review_id: Annotated[str, typer.Argument(help="The review's id in the source.")],
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Removes a review for good: from tables, day copies, run files and label snapshots; no later run takes it in.

    \b
    Example: ecner forget R0001 --config nightly.yaml
    """
    with user_errors(debug=debug):
        from ecner.forget import forget as run_forget

        typer.echo(run_forget(load_settings(config), review_id).to_text())


@app.command()
def evaluate(
    data: Annotated[str, typer.Option("--data", help="Labelled texts: chinese_ner_sft JSONL or CoNLL.")],
    train_file: Annotated[
        str | None, typer.Option("--train", help="Training texts, to score seen and unseen ones apart.")
    ] = None,
    model: ModelOption = None,
    decoder: DecoderOption = None,
    json_file: JsonOption = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Scores a model on labelled texts.

    \b
    Example: ecner evaluate --data dev.jsonl --train train.jsonl --json scores.json
    """
    with user_errors(debug=debug):
        from ecner.data.files import write_whole
        from ecner.evaluation import evaluate as run_evaluation

        settings = load_settings(config)
        result = run_evaluation(_reader(settings, model, decoder), data, train_file, settings.model.labels)
        for row in result.bad_rows:
            typer.echo(f"warning: {row}", err=True)
        typer.echo(result.to_text())
        if json_file:
            write_whole(json_file, (json.dumps(result.to_json(), ensure_ascii=False, indent=1) + "\n").encode())


@app.command()
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to read.")] = None,
    source: Annotated[
        str | None, typer.Option("--input", help=".txt, .jsonl or .parquet by content; - is stdin.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File for the JSON lines; stdout if not given.")
    ] = None,
    model: ModelOption = None,
    decoder: DecoderOption = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Add the k best paths of each text.")] = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Finds mentions in texts: one JSON object a text, in order.

    \b
    Example: ecner predict "联想的ThinkPad X200很好用"
    """
    with user_errors(debug=debug):
        from ecner.data.files import write_whole
        from ecner.data.texts import read_texts
        from ecner.prediction import predictions

        if bool(texts) == (source is not None):
            raise UsageError("give texts as arguments, or --input with a file (- for stdin): expected one of the two")
        settings = load_settings(config)
        wanted = read_texts(source) if source is not None else texts or []
        reader = _reader(settings, model, decoder)
        lines = predictions(reader, wanted, settings.model.labels, top_k=top_k)
        if output is not None:
            write_whole(output, "".join(lines).encode())
        else:
            sys.stdout.writelines(lines)


@app.command()
def convert(
    source: Annotated[str, typer.Option("--input", help="chinese_ner_sft JSONL or CoNLL.")],
    output: Annotated[Path, typer.Option("--output", help="The same in the other form.")],
    debug: DebugOption = False,
) -> None:
    """Converts labelled texts between JSONL and CoNLL.

    chinese_ner_sft JSONL becomes CoNLL and CoNLL becomes JSONL; rows that cannot be taken are reported by line.

    \b
    Example: ecner convert --input dev.jsonl --output dev.txt
    """
    with user_errors(debug=debug):
        from ecner.data.corpus import convert as run_conversion

        report = run_conversion(source, output)
        for row in report.bad_rows:
            typer.echo(f"warning: {row}", err=True)
        typer.echo(
            f"{report.source_format} to {report.target_format}: {report.rows_read} rows read, "
            f"{report.rows_written} written, {len(report.bad_rows)} bad"
        )


@app.command()
def query(
    view_or_sql: Annotated[str | None, typer.Argument(help="A view or table by its name, or one SQL query.")] = None,
    describe: Annotated[
        str | None, typer.Option("--describe", metavar="VIEW", help="Print what a view's rows and columns mean.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Form of the result.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", help="File for the result; stdout if not given.")] = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """A read-only look at the warehouse.

    \b
    Example: ecner query "select canonical, review_count from top_entities_monthly where entity_type = 'brand'"
    """
    with user_errors(debug=debug):
        from ecner.storage.output import write_result
        from ecner.storage.query import run_query
        from ecner.storage.views import view_header

        if (view_or_sql is None) == (describe is None):
            raise UsageError("give a view, a table or a query, or --describe with a view: expected one of the two")
        if describe is not None:
            typer.echo(view_header(describe))
        if view_or_sql is not None:
            write_result(run_query(*load_settings(config).warehouse_at, view_or_sql), form, output)


@app.command()
def bench(
    source: Annotated[
        str | None, typer.Option("--input", help="Texts to read; the shipped sample if not given.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    preset: Annotated[
        Preset, typer.Option("--preset", help="The shipped size, or bert-base with Qwen2.5-0.5B.")
    ] = "small",
    json_file: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Speed of reading on this machine.

    Times the bare forward pass, the whole reading path and transformers' pipeline on the same texts, in one run.

    \b
    Example: ecner bench --input reviews.parquet --json bench.json
    """
    with user_errors(debug=debug):
        from ecner.bench import render, run_bench, to_json
        from ecner.data.files import write_whole
        from ecner.data.texts import read_texts
        from ecner.model.checkpoint import Checkpoint
        from ecner.resources import asset

        texts = read_texts(source or str(asset("sample/reviews.parquet")))
        checkpoint = Checkpoint.load(_model_folder(load_settings(None), None))
        result = run_bench(texts, device=device, preset=preset, checkpoint=checkpoint)
        typer.echo(render(result))
        if json_file:
            write_whole(json_file, f"{to_json(result)}\n".encode())


@models.command("list")
def models_list(config: ConfigOption = None, debug: DebugOption = False) -> None:
    """Shows which models the warehouse knows.

    \b
    Example: ecner models list
    """
    with user_errors(debug=debug):
        from ecner.storage.output import write_result
        from ecner.storage.query import run_query

        write_result(run_query(*load_settings(config).warehouse_at, "model_versions"), "table")


@models.command("show")
def models_show(
    ref: Annotated[str, typer.Argument(help="default, champion or a version id.")],
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Shows a model's figures, per data set, metric and entity type.

    \b
    Example: ecner models show champion
    """
    with user_errors(debug=debug):
        from ecner.registry import resolve_in
        from ecner.storage.output import write_result
        from ecner.storage.query import run_query

        settings = load_settings(config)
        address = settings.warehouse_at
        model = resolve_in(address, ref, settings.lake)
        figures = run_query(*address, "select * from model_quality order by dataset, metric, entity_type")
        typer.echo(_shown(f"{model.version} in {model.folder}"))
        write_result(figures.filter(version=model.version), "table")


@models.command("promote")
def models_promote(
    ref: Annotated[str, typer.Argument(help="A version id, default, or a model folder.")],
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Makes a model the champion, and writes the bridge between it and the one before.

    No table of mentions changes: the next night reads what is new or changed with it, --full the rest.

    \b
    Example: ecner models promote default
    """
    with user_errors(debug=debug):
        from ecner.retraining.promotion import promote

        typer.echo(promote(load_settings(config), ref).to_text())


@models.command("rollback")
def models_rollback(config: ConfigOption = None, debug: DebugOption = False) -> None:
    """Goes back to the champion before the last promotion; once more goes back further.

    \b
    Example: ecner models rollback
    """
    with user_errors(debug=debug):
        from ecner.retraining.promotion import rollback

        typer.echo(rollback(load_settings(config)).to_text())


@link.command("suggest")
def link_suggest(
    least_score: Annotated[
        float | None, typer.Option("--least-score", min=0, max=1, help="Leave out what scores less.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Form of the result.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", help="File for the result; stdout if not given.")] = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Works out which names may be one entity, and shows those on which nobody has decided. Nothing is linked by it.

    \b
    Example: ecner link suggest --least-score 0.7
    """
    with user_errors(debug=debug):
        from ecner.linking.score import LEAST_SCORE
        from ecner.linking.suggest import suggest
        from ecner.storage.output import write_result

        queue = suggest(load_settings(config), LEAST_SCORE if least_score is None else least_score)
        write_result(queue, form, output)


@link.command("accept")
def link_accept(
    entity_type: EntityTypeArgument,
    alias: Annotated[str, typer.Argument(help="The name that is to be counted under the other.")],
    canonical: Annotated[str, typer.Argument(help="The name that both are to be counted under.")],
    by: ByOption = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Counts a name under another from now on, and in the whole history; no text is read for it.

    \b
    Example: ecner link accept brand lenovo 联想
    """
    _decide("accept", entity_type, (alias, canonical), by, config, debug=debug)


@link.command("reject")
def link_reject(
    entity_type: EntityTypeArgument,
    alias: Annotated[str, typer.Argument(help="The name that is not the other, or no longer.")],
    canonical: Annotated[str, typer.Argument(help="The other name.")],
    by: ByOption = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Says that two names are not one: they are suggested no more, and what was accepted is taken back.

    \b
    Example: ecner link reject brand 联想 联通
    """
    _decide("reject", entity_type, (alias, canonical), by, config, debug=debug)


def _decide(
    action: Literal["accept", "reject"],
    entity_type: str,
    names: tuple[str, str],
    by: str | None,
    config: Path | None,
    *,
    debug: bool,
) -> None:
    with user_errors(debug=debug):
        from ecner.linking.decide import Decision, decide

        decision = Decision(action, entity_type, *names, _user() if by is None else by)
        typer.echo(_shown(decide(load_settings(config), decision).to_text()))


def _user() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError):
        raise UsageError("this system has no name for its user: say with --by who decides") from None


def main() -> None:
    """Entry point of the command ecner."""
    run_command(app)


def run_command(command: typer.Typer) -> None:
    """Runs a command with the arguments of this process; typer ends usage errors with status 2 by itself."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is, whatever the locale says
    command()


def make_selection(first: datetime | None, last: datetime | None, *, full: bool) -> "Selection":
    """The reviews that --from, --to and --full mean.

    Raises:
        UsageError: the dates are in the wrong order.
    """
    from ecner.nightly.scope import Selection

    if first and last and first > last:
        raise UsageError(f"--from {first:%F} is after --to {last:%F}: expected a range of dates")
    return Selection(first.date() if first else None, last.date() if last else None, full)


def with_labels(
    settings: Settings, train: list[Path] | None, dev: list[Path] | None, test: list[Path] | None
) -> Settings:
    """The settings with the files of the command line in the place of theirs."""
    named = {name: tuple(files) for name, files in (("train", train), ("dev", dev), ("test", test)) if files}
    return settings.model_copy(update={"train": settings.train.model_copy(update=named)})


def _reader(settings: Settings, ref: str | None, decoder: Decoder | None) -> "Reader":
    """A reader by settings, with what the command line says over them."""
    from ecner.inference.reader import Reader

    model = settings.model.model_copy(update={"decoder": decoder} if decoder else {})
    return Reader.open(_model_folder(settings, ref), model, max_batch_chars=settings.run.max_batch_chars)


def _model_folder(settings: Settings, ref: str | None) -> Path:
    """The model by settings, or by a reference; a warehouse is looked at where there is one, but not made."""
    from ecner.registry import CHAMPION, SHIPPED, is_folder, resolve, resolve_in

    ref = ref or settings.model.ref
    if ref == SHIPPED or (ref != CHAMPION and is_folder(ref)):
        return resolve(ref, lake=settings.lake).folder
    try:
        return resolve_in(settings.warehouse_at, ref, settings.lake).folder
    except RunError as error:
        if ref != CHAMPION:
            raise
        typer.echo(f"warning: {error}; the shipped model reads, whoever is champion there", err=True)
        return resolve(SHIPPED).folder


def _progress(shards: Sequence[str]) -> Iterable[str]:
    """A bar on a terminal, log lines elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        return track(shards, description="reading shards", console=Console(stderr=True))
    return _logged(shards)


def _logged(shards: Sequence[str]) -> Iterator[str]:
    for number, shard in enumerate(shards, 1):
        typer.echo(f"reading shard {number} of {len(shards)}", err=True)
        yield shard


@contextmanager
def user_errors(*, debug: bool) -> Iterator[None]:
    """One message on stderr and the error's exit status; a traceback only where it was asked for."""
    if not debug:
        _quiet_libraries()
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough: typer ends quietly
        raise
    except KeyboardInterrupt:
        _end("interrupted", 130, debug=debug)
    except EcnerError as error:
        _end(f"error: {error}", error.exit_code, debug=debug)
    except Exception as error:  # noqa: BLE001 - a user gets one message, whatever it was
        _end(f"error: {type(error).__name__}: {error} (--debug shows where)", 1, debug=debug)


def _end(message: str, exit_code: int, *, debug: bool) -> NoReturn:
    if debug:
        typer.echo(redacted(traceback.format_exc()), err=True, nl=False)
    typer.echo(_shown(redacted(message)), err=True)
    raise typer.Exit(exit_code) from None


def _shown(text: str) -> str:
    """Without what would steer a terminal: names out of files and tables may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _quiet_libraries() -> None:
    """Libraries' warnings and progress bars are for developers."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # is read when they are imported
    if transformers := sys.modules.get("transformers"):
        transformers.utils.logging.disable_progress_bar()
    for name in ("transformers", "alembic", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
