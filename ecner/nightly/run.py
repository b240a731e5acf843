"""A night from end to end: what every way of running it does around and between the stages."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from ecner.config import ModelSettings, Settings, redacted
from ecner.errors import EcnerError, UsageError
from ecner.inference.reader import resolve_device
from ecner.model.checkpoint import fingerprint
from ecner.nightly.extract import Extracted, extract_shard
from ecner.nightly.lake import Lake
from ecner.nightly.plan import Plan, ReadingModel, Selection, make_plan
from ecner.nightly.publish import Rules, publish
from ecner.nightly.report import Report, make_report
from ecner.nightly.source import ParquetSource, open_source
from ecner.registry import ModelVersion, labels_of, register, resolve, resolve_in
from ecner.schema import TABLES
from ecner.storage.warehouse import Warehouse


@dataclass(frozen=True)
class Night:
    """All that was checked before a run starts: whoever has it can run the stages."""

    settings: Settings
    selection: Selection
    source: ParquetSource
    warehouse: Warehouse
    rules: Rules
    run_id: str

    def plan(self) -> Plan:
        """Stage 1: enters the run in the ledger, pins the model, and lays out what is to be done."""
        model = self._begin()
        return make_plan(
            self.settings,
            self.source,
            self.warehouse,
            run_id=self.run_id,
            model=model,
            selection=self.selection,
        )

    def extract(self, shard: str, plan: Plan) -> Extracted:
        """Stage 2, for each shard: reads its texts."""
        return extract_shard(
            shard,
            plan.model,
            self.settings.model,
            lake_uri=self.settings.lake.uri,
            batch_chars=self.settings.run.max_batch_chars,
        )

    def publish(self, plan: Plan, extracted: Sequence[Extracted]) -> None:
        """Stage 3: writes it all in one transaction."""
        publish(self.warehouse, plan, [part.path for part in extracted], self.rules, self.settings.drift)
        kept = timedelta(days=self.settings.lake.keep_days)
        Lake(Path(self.settings.lake.uri)).clear(datetime.now(UTC) - kept)

    def report(self, plan: Plan, extracted: Sequence[Extracted]) -> Report:
        """Stage 4: what was found, what was rejected, how fast."""
        return make_report(self.settings, self.warehouse, plan, extracted)

    @contextmanager
    def ledger(self) -> Iterator[None]:
        """Closes the run as failed, with the reason, where the block raises."""
        try:
            yield
        except BaseException as error:
            # a warehouse that cannot be reached must not hide why the run failed
            with suppress(EcnerError), self.warehouse.begin() as transaction:
                transaction.update(
                    "extraction_runs",
                    {"run_id": self.run_id, "status": "running"},
                    {"status": "failed", "finished_at": datetime.now(UTC), "error": _one_line(error)},
                )
            raise

    def _begin(self) -> ReadingModel:
        """Writes the run's first row; a run that was killed before it could close its own is closed as abandoned."""
        self.warehouse.migrate()
        now = datetime.now(UTC)
        with self.warehouse.begin() as transaction:
            transaction.update("extraction_runs", {"status": "running"}, {"status": "abandoned", "finished_at": now})
            model = resolve(self.settings.model.ref, transaction)
            register(transaction, model)
            transaction.append("extraction_runs", self._first_row(model, now))
        return _pinned(self.settings, model)

    def _first_row(self, model: ModelVersion, now: datetime) -> pl.DataFrame:
        counts = ("reviews_in", "reviews_rejected", "texts_unique", "texts_cached", "texts_inferred", "mentions_out")
        known = {
            "run_id": self.run_id,
            "source": self.source.name,
            "status": "running",
            "started_at": now,
            "watermark_column": self.settings.source.watermark_column,
            "model_version": model.version,
        }
        return pl.DataFrame([known | dict.fromkeys(counts, 0)], schema=TABLES["extraction_runs"].polars_schema)


def prepare(settings: Settings, selection: Selection) -> Night:
    """Checks settings, source, lexicon and model; nothing has been written when it raises.

    Raises:
        UsageError: one of them is wrong.
        DataError: the source cannot be read.
        ModelError: the model's folder is not one.
    """
    model = resolve_in(settings.warehouse_at, settings.model.ref)
    _pinned(settings, model)
    _check_thresholds(settings.model, model)
    return Night(
        settings=settings,
        selection=selection,
        source=open_source(settings.source),
        warehouse=Warehouse(*settings.warehouse_at),
        rules=Rules.of(settings.model),
        run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
    )


def run_night(night: Night, *, progress: Callable[[Sequence[str]], Iterable[str]] = lambda shards: shards) -> Report:
    """Runs the stages one after the other, here."""
    with night.ledger():
        plan = night.plan()
        extracted = [night.extract(shard, plan) for shard in progress(plan.shards)]
        night.publish(plan, extracted)
        return night.report(plan, extracted)


def _check_thresholds(settings: ModelSettings, model: ModelVersion) -> None:
    """Refuses thresholds of types that the model does not know: a misspelt one would be passed over in silence."""
    types = {settings.labels.get(label, label) for label in labels_of(model.folder)}
    if unknown := sorted(settings.min_confidence.keys() - types):
        raise UsageError(
            f"model.min_confidence names {', '.join(unknown)}: expected types that {model.version} finds, "
            f"{', '.join(sorted(types))}"
        )


def _pinned(settings: Settings, model: ModelVersion) -> ReadingModel:
    """The model as this run will read with it."""
    _, dtype = resolve_device(settings.model.device, settings.model.dtype)
    identity = fingerprint(model.folder, decoder=settings.model.decoder, dtype=str(dtype))
    return ReadingModel(model.version, str(model.folder), identity)


def _one_line(error: BaseException) -> str:
    """The ledger's reason, without passwords: the message, or the kind of an error that has none."""
    return redacted(" ".join(str(error).split())) or type(error).__name__
