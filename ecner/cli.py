"""Commands. Each is a thin shell over one function; heavy packages are imported inside the command that needs them."""

import json
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecner.config import Settings, load_settings
from ecner.errors import EcnerError, UsageError

if TYPE_CHECKING:
    from ecner.inference.reader import Reader

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
models = typer.Typer(no_args_is_help=True, help="The model registry of the warehouse.")
app.add_typer(models, name="models")


class Decoder(StrEnum):
    """How the best tag path is found."""

    viterbi = "viterbi"
    beam = "beam"


class Form(StrEnum):
    """Forms of a query's result."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


class Preset(StrEnum):
    """Sizes of the model that bench times."""

    small = "small"
    base = "base"


ConfigOption = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings.")]
FromOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First review date, inclusive.")
]
ToOption = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last review date, inclusive.")]
FullOption = Annotated[
    bool, typer.Option("--full", help="Look at every review, and read anew what another model read.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the libraries' own messages.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="default, champion, a version id or a folder; model.ref if not given."),
]
DecoderOption = Annotated[
    Decoder | None, typer.Option("--decoder", help="viterbi or beam; model.decoder if not given.")
]
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

    Example: ecner extract --config nightly.yaml --from 2026-11-01 --to 2026-11-07
    """
    with _user_errors(debug=debug):
        from ecner.nightly.run import prepare, run_night

        night = prepare(load_settings(config), _selection(first, last, full=full))
        typer.echo(run_night(night, progress=_progress).to_text())


@app.command()
def train(
    train_files: Annotated[list[Path], typer.Option("--train", help="Labelled texts; may be given more than once.")],
    dev_files: Annotated[
        list[Path], typer.Option("--dev", help="Labelled texts to judge by; may be given more than once.")
    ],
    output: Annotated[
        Path, typer.Option("--output", help="Folder of the checkpoints; the model goes to its folder model.")
    ],
    config: ConfigOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in the output folder.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Trains a model on labelled texts, with the settings train.*.

    Example: ecner train --config configs/train-shipped.yaml --train train.jsonl --dev dev.jsonl --output trained
    """
    with _user_errors(debug=debug):
        from ecner.training.run import train_model

        scores = train_model(load_settings(config).train, train_files, dev_files, output, resume=resume)
        typer.echo("\n".join(f"{name}: strict F1 {value:.4f}" for name, value in scores.items()))
        typer.echo(f"model: {output / 'model'}")


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

    Example: ecner evaluate --data dev.jsonl --train train.jsonl --json scores.json
    """
    with _user_errors(debug=debug):
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
    """Mentions in texts, one JSON object a text, in order.

    Example: ecner predict "联想的ThinkPad X200很好用"
    """
    with _user_errors(debug=debug):
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
    """Converts labelled texts between chinese_ner_sft JSONL and CoNLL, with a report of bad rows.

    Example: ecner convert --input dev.jsonl --output dev.txt
    """
    with _user_errors(debug=debug):
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
    view_or_sql: Annotated[str, typer.Argument(help="A view or table by its name, or one SQL query.")],
    form: Annotated[Form, typer.Option("--format", help="Form of the result.")] = Form.table,
    output: Annotated[Path | None, typer.Option("--output", help="File for the result; stdout if not given.")] = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """A read-only look at the warehouse.

    Example: ecner query "select canonical, review_count from top_entities_monthly where entity_type = 'brand'"
    """
    with _user_errors(debug=debug):
        from ecner.storage.output import write_result
        from ecner.storage.query import run_query

        write_result(run_query(load_settings(config).warehouse_url, None, view_or_sql), form.value, output)


@app.command()
def bench(
    source: Annotated[
        str | None, typer.Option("--input", help="Texts to read; the shipped sample if not given.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    preset: Annotated[
        Preset, typer.Option("--preset", help="The shipped size, or bert-base with Qwen2.5-0.5B.")
    ] = Preset.small,
    json_file: JsonOption = None,
    debug: DebugOption = False,
) -> None:
    """Speed of the bare forward pass, of the whole reading path and of transformers' pipeline, on the same texts.

    Example: ecner bench --input reviews.parquet --json bench.json
    """
    with _user_errors(debug=debug):
        from ecner.bench import render, run_bench, to_json
        from ecner.data.files import write_whole
        from ecner.data.texts import read_texts
        from ecner.resources import asset

        texts = read_texts(source or str(asset("sample/reviews.parquet")))
        result = run_bench(texts, device=device, preset=preset.value, checkpoint=None)
        typer.echo(render(result))
        if json_file:
            write_whole(json_file, (json.dumps(to_json(result), indent=1) + "\n").encode())


@models.command("list")
def models_list(config: ConfigOption = None, debug: DebugOption = False) -> None:
    """Models that the warehouse knows.

    Example: ecner models list
    """
    with _user_errors(debug=debug):
        from ecner.storage.output import write_result
        from ecner.storage.query import run_query

        write_result(run_query(load_settings(config).warehouse_url, None, "model_versions"), "table")


@models.command("show")
def models_show(ref: str, config: ConfigOption = None, debug: DebugOption = False) -> None:
    """A model's figures, per data set, metric and entity type.

    Example: ecner models show champion
    """
    with _user_errors(debug=debug):
        from ecner.storage.output import write_result
        from ecner.storage.query import run_query

        rows = run_query(load_settings(config).warehouse_url, None, "model_quality")
        known = rows.filter(
            (rows["version"] == ref) | ((rows["status"] == "champion") & (ref in {"champion", "default"}))
        )
        if known.is_empty():
            raise UsageError(f"the warehouse has no figures of a model {ref!r}: see ecner models list")
        write_result(known, "table")


def run_flow(name: str) -> None:
    """The command line of ``python -m flows.NAME``."""
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    command.command(help=_FLOWS[name].__doc__)(_FLOWS[name])
    _call(command)


def _extract_flow(
    config: ConfigOption = None,
    first: FromOption = None,
    last: ToOption = None,
    full: FullOption = False,
    debug: DebugOption = False,
) -> None:
    """One night as a Prefect flow; without a source, over the shipped sample.

    Example: python -m flows.extract --config nightly.yaml
    """
    with _user_errors(debug=debug):
        from flows.extract import run

        report = run(config, _selection(first, last, full=full), debug=debug)
        typer.echo(report.to_text())


_FLOWS = {"extract": _extract_flow}


def main() -> None:
    """Entry point of the command ecner."""
    _call(app)


def _call(command: typer.Typer) -> None:
    """Runs a command; typer ends usage errors with status 2 by itself."""
    command()


def _selection(first: datetime | None, last: datetime | None, *, full: bool) -> Any:
    from ecner.nightly.plan import Selection

    days: list[date | None] = [day.date() if day else None for day in (first, last)]
    if first and last and first > last:
        raise UsageError(f"--from {days[0]} is after --to {days[1]}: expected a range of dates")
    return Selection(days[0], days[1], full)


def _reader(settings: Settings, model: str | None, decoder: Decoder | None) -> "Reader":
    """A reader by settings, with what the command line says over them. Needs no warehouse."""
    from ecner.inference.reader import Reader
    from ecner.model.checkpoint import Checkpoint
    from ecner.registry import resolve

    chosen = settings.model
    return Reader(
        Checkpoint.load(resolve(model or chosen.ref).folder),
        device=chosen.device,
        dtype=chosen.dtype,
        decoder=decoder.value if decoder else chosen.decoder,
        max_batch_chars=settings.run.max_batch_chars,
    )


def _progress(shards: Sequence[str]) -> Iterable[str]:
    """A bar on a terminal, log lines elsewhere."""
    if sys.stderr.isatty():
        from rich.progress import track

        return track(shards, description="reading shards", console=_stderr())
    return _logged(shards)


def _logged(shards: Sequence[str]) -> Iterator[str]:
    for number, shard in enumerate(shards, 1):
        typer.echo(f"reading shard {number} of {len(shards)}", err=True)
        yield shard


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def _user_errors(*, debug: bool) -> Iterator[None]:
    """One message on stderr and the error's exit status; a traceback only where it was asked for."""
    if not debug:
        _quiet_libraries()
    try:
        yield
    except EcnerError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        typer.echo(f"error: {type(error).__name__}: {error} (--debug shows where)", err=True)
        raise typer.Exit(1) from None


def _quiet_libraries() -> None:
    """Libraries' warnings and progress bars are for developers."""
    warnings.simplefilter("ignore")
    for name in ("transformers", "alembic", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
