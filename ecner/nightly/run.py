"""A night from end to end: what every way of running it does around and between the stages."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl

from ecner.config import ModelSettings, Settings, redacted
from ecner.errors import EcnerError, UsageError
from ecner.inference.reader import resolve_device
from ecner.lake import Lake
from ecner.model.checkpoint import fingerprint
from ecner.nightly.copies import copies_folder, write_copies
from ecner.nightly.extract import Extracted, extract_shard
from ecner.nightly.page import write_page
from ecner.nightly.plan import Plan, make_plan
from ecner.nightly.publish import publish
from ecner.nightly.report import Report, make_report
from ecner.nightly.rules import Rules
from ecner.nightly.scope import ReadingModel, Selection
from ecner.nightly.source import Source, open_source
from ecner.nightly.stopwatch import Stopwatch
from ecner.nightly.tidy import tidy
from ecner.registry import ModelVersion, labels_of, register, resolve, resolve_in
from ecner.retry import retried
from ecner.schema import TABLES
from ecner.storage.lease import Lease
from ecner.storage.warehouse import Warehouse

_EARLY = 3  # attempts while somebody may be waiting to see whether the settings are right


@dataclass(frozen=True)
class Night:
    """All that was checked before a run starts: whoever has it can run the stages, inside of ``ledger``."""

    settings: Settings
    selection: Selection
    source: Source
    warehouse: Warehouse
    rules: Rules
    run_id: str
    lease: Lease
    watch: Stopwatch = field(default_factory=Stopwatch)

    @contextmanager
    def ledger(self) -> Iterator[None]:
        """Holds the warehouse's lease, enters the run, and closes it as failed, with the reason, if the block raises.

        Raises:
            LeaseError: another run holds the warehouse.
        """
        retried(self.warehouse.migrate)
        with self.lease:
            try:
                yield
            except BaseException as error:
                # a warehouse that cannot be reached must not hide why the run failed
                with suppress(EcnerError):
                    retried(partial(self._close, error))
                raise

    def plan(self) -> Plan:
        """Stage 1: enters the run in the ledger, pins the model, and lays out what is to be done."""
        model = retried(self._begin)
        return retried(lambda: self._plan(model))

    def extract(self, shard: str, plan: Plan) -> Extracted:
        """Stage 2, for each shard: reads its texts."""
        self.lease.check()
        settings = self.settings
        return extract_shard(
            shard, plan.model, settings.model, lake=settings.lake, batch_chars=settings.run.max_batch_chars
        )

    def publish(self, plan: Plan, extracted: Sequence[Extracted]) -> None:
        """Stage 3: writes it all in one transaction; then the copies in the lake."""
        readings = [part.path for part in extracted]
        with self.watch.on("publish"):
            retried(lambda: self._publish(plan, readings))
        lake = Lake.open(self.settings.lake)
        with self.watch.on("copies"):
            retried(lambda: write_copies(self.warehouse, lake, copies_folder(self.settings), self.lease))
        kept = timedelta(days=self.settings.lake.keep_days)
        retried(lambda: tidy(self.warehouse, lake, datetime.now(UTC) - kept))

    def report(self, plan: Plan, extracted: Sequence[Extracted]) -> Report:
        """Stage 4: what was found, what was rejected, how fast."""
        return retried(lambda: make_report(self.settings, self.warehouse, plan, extracted, self.watch.seconds))

    def page(self, report: Report) -> Report:
        """Stage 5: the page that people read, in the lake; the report then names it, or says why there is none.

        The tables stand by then: a page that cannot be made is no reason to call the run a failure.
        """
        try:
            return replace(report, page=retried(lambda: write_page(self.settings, self.lease.check)))
        except Exception as error:  # noqa: BLE001 - whatever a library of charts may raise
            return replace(report, page=f"not written: {_one_line(error)}")

    def _plan(self, model: ReadingModel) -> Plan:
        return make_plan(
            self.settings,
            self.source,
            self.warehouse,
            run_id=self.run_id,
            model=model,
            selection=self.selection,
            check=self.lease.check,
        )

    def _publish(self, plan: Plan, readings: Sequence[str]) -> None:
        publish(
            self.warehouse,
            Lake.open(self.settings.lake),
            plan,
            readings,
            rules=self.rules,
            drift=self.settings.drift,
            lease=self.lease,
        )

    def _begin(self) -> ReadingModel:
        """Writes the run's first row; a run that was killed before it could close its own is closed as abandoned."""
        now = datetime.now(UTC)
        with self.warehouse.begin() as transaction, self.lease.held(transaction):
            transaction.update("extraction_runs", {"status": "running"}, {"status": "abandoned", "finished_at": now})
            model = resolve(self.settings.model.ref, transaction, self.settings.lake)
            register(transaction, model)
            # a second attempt, after a commit that was never confirmed, finds its row
            transaction.append_missing("extraction_runs", self._first_row(model, now))
            transaction.update("extraction_runs", {"run_id": self.run_id}, {"status": "running", "finished_at": None})
        return _pinned(self.settings, model)

    def _close(self, error: BaseException) -> None:
        with self.warehouse.begin() as transaction:
            transaction.update(
                "extraction_runs",
                {"run_id": self.run_id, "status": "running"},
                {"status": "failed", "finished_at": datetime.now(UTC), "error": _one_line(error)},
            )

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
        TransientError: a store or a database does not answer.
        ModelError: the model's folder is not one.
    """
    model = retried(lambda: resolve_in(settings.warehouse_at, settings.model.ref, settings.lake), attempts=_EARLY)
    _pinned(settings, model)
    _check_thresholds(settings.model, model)
    retried(Lake.open(settings.lake).check, attempts=_EARLY)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    warehouse = Warehouse(*settings.warehouse_at)
    return Night(
        settings=settings,
        selection=selection,
        source=retried(lambda: open_source(settings.source), attempts=_EARLY),
        warehouse=warehouse,
        rules=Rules.of(settings.model),
        run_id=run_id,
        lease=Lease(warehouse, run_id, settings.run.lease_seconds, wait_seconds=settings.run.wait_seconds),
    )


def run_night(
    night: Night, *, progress: Callable[[Sequence[str]], Iterable[str]] = lambda shards: shards, page: bool = False
) -> Report:
    """Runs the stages one after the other, here; the last one, the page, on demand."""
    with night.ledger():
        plan = night.plan()
        extracted = [night.extract(shard, plan) for shard in progress(plan.shards)]
        night.publish(plan, extracted)
        report = night.report(plan, extracted)
        return night.page(report) if page else report


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
    return ReadingModel(model.version, model.uri, identity)


def _one_line(error: BaseException) -> str:
    """The ledger's reason, without passwords: the message, or the kind of an error that has none."""
    return redacted(" ".join(str(error).split())) or type(error).__name__
