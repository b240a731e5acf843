"""Settings: defaults here, under a YAML file, under ``ECNER_<SECTION>__<KEY>`` variables; frozen, validated at once."""

import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar
from zoneinfo import available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from ecner.errors import UsageError
from ecner.resources import asset

_ENV_PREFIX = "ECNER_"
_LONGEST_NAME = 255  # bytes, of every file system that matters
_Path = TypeVar("_Path", str, SecretStr, Path)


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not an IANA time zone such as UTC or Asia/Shanghai")
    return name


def _from_json(value: object) -> object:
    """A mapping out of a variable, whose value can only be text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('expected a mapping; in a variable as JSON, such as {"KEY": "value"}') from None


def _list_from_json(value: object) -> object:
    """A list out of a variable."""
    try:
        read = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        read = value
    if isinstance(read, list | tuple | None):
        return read
    raise ValueError('expected a list; in a variable as a JSON list, such as ["one", "two"] or [0, 1]')


def _paths_from_text(value: object) -> object:
    """Text is one path, or a JSON list of several."""
    is_path = isinstance(value, str) and not value.lstrip().startswith("[")
    return [value] if is_path else _list_from_json(value)


def _from_seconds(value: object) -> object:
    """Seconds out of a variable; pydantic reads ISO 8601 itself."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value) else value


def _folder_or_s3(uri: str) -> str:
    if "://" in uri and not re.match(r"s3://[^/]+", uri):
        raise ValueError("expected a folder of a file system that is mounted here, or s3://bucket/folder")
    return uri


def has_long_name(path: str) -> bool:
    """Whether a part of a path is longer than disks take: to look at it would be an error of the system."""
    return any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in path.split("/"))


def _that_may_exist(path: _Path) -> _Path:
    text = path.get_secret_value() if isinstance(path, SecretStr) else str(path)
    if "://" not in text and has_long_name(text):
        raise ValueError(f"a part of the path is longer than {_LONGEST_NAME} bytes: expected one that a disk takes")
    return path


def _holds_no_text(value: object) -> bool:
    """Whether there is a NUL anywhere, or what is not UTF-8: no database and no system takes it in a name."""
    match value:
        case SecretStr():
            return _holds_no_text(value.get_secret_value())
        case str() | Path():
            return re.search("[\0\ud800-\udfff]", str(value)) is not None
        case Mapping():
            return any(map(_holds_no_text, (*value.keys(), *value.values())))
        case tuple():
            return any(map(_holds_no_text, value))
    return False


# USER:PASSWORD@, whose scheme may have been forgotten; ?password=PASSWORD; password=PASSWORD as libpq takes it
_SECRETS = (
    re.compile(r"((?:^(?://)?|://)[^/@:]*:)(?!//|\s|\*\*\*@).*(@)", re.DOTALL),
    re.compile(
        r"([?&][^=&]*(?:pass|pwd|secret|token|key|credential|odbc_connect)[^=&]*=)(?!\*\*\*(?:\W|$))[^&]*()",
        re.IGNORECASE,
    ),
    re.compile(
        r"((?:^|[\s;])\w*(?:passw|pwd|secret|token)\w*\s*=\s*)(?!\*\*\*)(?:'(?:\\.|[^'\\])*(?:'|$)|[^\s;]*)()",
        re.IGNORECASE | re.DOTALL,
    ),
)
Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
TimeZone = Annotated[str, AfterValidator(_known_zone)]
Duration = Annotated[timedelta, Field(ge=timedelta(0)), BeforeValidator(_from_seconds)]
Share = Annotated[float, Field(ge=0, le=1)]
File = Annotated[Path, AfterValidator(_that_may_exist)]
Paths = Annotated[tuple[File, ...], BeforeValidator(_paths_from_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_list_from_json)]
Projections = tuple[Literal["query", "key", "value", "output"], ...]
Layers = Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, BeforeValidator(_list_from_json)]


class Address(NamedTuple):
    """A warehouse's SQLAlchemy URL, which may hold a password, and schema."""

    url: str
    schema: str | None = None

    def __repr__(self) -> str:
        return f"Address({redacted(self.url)!r}, {self.schema!r})"


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys are errors, values are never echoed in error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, values: Any) -> Any:
        """A section in which every line is commented out is null in YAML."""
        if not isinstance(values, dict):
            return values
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in values.items() if value is not None or key not in known}

    @field_validator("*")
    @classmethod
    def _holds_text(cls, value: Any) -> Any:
        if _holds_no_text(value):
            raise ValueError("it holds a NUL, or what is not UTF-8: remove it")
        return value


class SourceColumns(Section):
    """The source's names for our columns; only review_id and text must be there."""

    review_id: Text = "review_id"
    text: Text = "text"
    product_id: Text = "product_id"
    rating: Text = "rating"
    created_at: Text = "created_at"
    updated_at: Text = "updated_at"
    deleted: Text = "deleted"


class SourceSettings(Section):
    """Where raw reviews come from, and how they are read incrementally."""

    uri: Annotated[Secret, AfterValidator(_that_may_exist)] | None = None
    endpoint: Text | None = None
    table: Text | None = None
    query: Text | None = None
    columns: SourceColumns = SourceColumns()
    watermark_column: Text | None = None
    lookback: Duration = timedelta(days=1)
    time_zone: TimeZone = "UTC"

    @model_validator(mode="after")
    def _one_of_table_and_query(self) -> Self:
        if self.table and self.query:
            raise ValueError("both table and query are set: expected one of them, for a database")
        return self

    @property
    def is_sample(self) -> bool:
        """Whether the shipped sample is read, as no source was named."""
        return self.uri is None

    @property
    def location(self) -> str:
        """The source to open."""
        return str(asset("sample/reviews.parquet")) if self.uri is None else self.uri.get_secret_value()


class WarehouseSettings(Section):
    """The database that the tables are written to, and the schema of it; unset is the connection's default one."""

    url: Secret | None = None
    schema_: Annotated[Text | None, Field(alias="schema")] = None  # pydantic's models have a method of that name


class LakeSettings(Section):
    """The place of run files (rows, shards, spans), day copies and model versions, on disk or on ``s3://``.

    ``endpoint`` is that of an object store other than AWS; ``cache`` is the folder here where a lake on an object
    store keeps models while they are used.
    """

    uri: Annotated[Text, AfterValidator(_folder_or_s3), AfterValidator(_that_may_exist)] = "ecner-data/lake"
    endpoint: Text | None = None
    cache: File = Path("ecner-data/cache")
    keep_days: Annotated[int, Field(ge=0)] = 7


class ModelSettings(Section):
    """Which model reads, on what, how its labels become entity types, and what is counted of them.

    Counts are corrected by the precision and recall on the first data set of ``evaluated_on`` that the model has
    figures of; its name is as in the view model_quality.
    """

    ref: Text = "champion"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    decoder: Literal["viterbi", "beam"] = "viterbi"
    min_confidence: Annotated[Mapping[str, Share], BeforeValidator(_from_json)] = Field(default_factory=dict)
    labels: Annotated[Mapping[str, str], BeforeValidator(_from_json)] = Field(
        default_factory=lambda: {"HCCX": "product", "HPPX": "brand", "XH": "model_number", "MISC": "misc"}
    )
    lexicon: File | None = None
    evaluated_on: Texts = ("all:fresh", "all", "sample")

    @model_validator(mode="after")
    def _thresholds_are_of_types(self) -> Self:
        """A threshold under a label that stands for a type would be passed over in silence."""
        if mapped := self.min_confidence.keys() & self.labels.keys() - set(self.labels.values()):
            meant = ", ".join(f"{label} by its type {self.labels[label]}" for label in sorted(mapped))
            raise ValueError(f"min_confidence goes by entity types: name {meant}")
        return self


class RunSettings(Section):
    """How a night is cut, where its shards are read, and when it refuses to publish.

    ``runner`` is for flows: ``address`` names its cluster, unset is one made here of ``workers`` processes. A night
    holds the warehouse's lease, which lasts ``lease_seconds`` beyond its last sign of life; where another night holds
    it, this one waits for ``wait_seconds`` at most.
    """

    shards: Annotated[int, Field(ge=1, le=4096)] = 4
    max_batch_chars: Annotated[int, Field(ge=512)] | None = None
    runner: Literal["local", "ray", "dask"] = "local"
    address: Secret | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    time_zone: TimeZone = "UTC"
    lease_seconds: Annotated[float, Field(ge=1)] = 300
    wait_seconds: Annotated[float, Field(ge=0)] = 0
    max_rejected_share: Share = 1.0


class LoraSettings(Section):
    """Low-rank adaption of the attention projections; what is new or small beside them is trained in full.

    ``encoder_layers`` and ``decoder_layers`` name layers from 0; unset is all of them, an empty list none.
    """

    r: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Share = 0.05
    projections: Annotated[Projections, Field(min_length=1), BeforeValidator(_list_from_json)] = (
        "query", "key", "value", "output",
    )  # fmt: skip
    encoder_layers: Layers = None
    decoder_layers: Layers = None
    moe: bool = True
    lr: Annotated[float, Field(gt=0)] = 1e-3


class GateSettings(Section):
    """What a challenger must show against the champion, on texts that neither was trained on. F1 is of 0 to 1."""

    min_gain: float = 0.0  # least gain of strict micro-F1
    min_gain_lower: float = -0.01  # and of the lower end of its interval
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95  # of that interval
    max_type_loss: Share = 0.03  # largest loss of strict F1 on any type
    min_type_support: Annotated[int, Field(ge=1)] = 30  # mentions below which a type is not judged
    max_slowdown: Annotated[float, Field(gt=0)] = 1.5  # seconds of the challenger over those of the champion
    max_entity_change: Share = 0.5  # share of the counts of any type's top entities that may move
    min_texts: Annotated[int, Field(ge=1)] = 50  # texts new to both models below which nothing is promoted


class TrainSettings(Section):
    """One training: its labels, what to start from, the sizes of what is new, the recipe, and the gate.

    ``dev_share`` and ``test_share`` of the labelled texts are held out by a hash of the text where no file is named.
    """

    train: Paths = ()
    dev: Paths = ()
    test: Paths = ()
    annotations: bool = False
    dev_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    test_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    labels: File | None = None
    base: Text = "default"
    method: Literal["lora", "full"] = "lora"
    lora: LoraSettings = LoraSettings()
    gate: GateSettings = GateSettings()
    promote: bool = True
    overlap_reviews: Annotated[int, Field(ge=1)] = 1000
    processes: Annotated[int, Field(ge=1)] = 1
    launcher: File | None = None
    scheme: Literal["BIO", "BILOU"] = "BIO"
    architecture: Literal["hybrid", "bert-crf"] = "hybrid"
    encoder_layers: Annotated[int, Field(ge=1)] | None = None
    decoder_base: Text | None = None
    decoder_size: Annotated[int, Field(ge=8)] = 256
    decoder_layers: Annotated[int, Field(ge=1)] = 2
    decoder_heads: Annotated[int, Field(ge=1)] = 4
    bidirectional: bool = True
    experts: Annotated[int, Field(ge=0)] = 8
    experts_per_token: Annotated[int, Field(ge=1)] = 2
    expert_size: Annotated[int, Field(ge=8)] = 512
    skip: bool = True
    branch_start: Literal["random", "zero"] = "random"
    head: Literal["crf", "softmax"] = "crf"
    dropout: Share = 0.1
    attention_dropout: Share = 0.0  # at 0 the fused attention kernels serve in training too: three times faster
    epochs: Annotated[float, Field(gt=0)] = 3
    encoder_lr: Annotated[float, Field(gt=0)] = 1.5e-4
    head_lr: Annotated[float, Field(gt=0)] = 1e-3
    crf_lr: Annotated[float, Field(gt=0)] | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = 0.1
    average: Share = 0.0
    adversarial: Annotated[float, Field(ge=0)] = 0.0
    consistency: Annotated[float, Field(ge=0)] = 0.0
    character_dropout: Share = 0.0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    batch_chars: Annotated[int, Field(ge=64)] = 1500
    patience: Annotated[int, Field(ge=1)] = 2
    seed: int = 0

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.experts and self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token is {self.experts_per_token}: expected at most {self.experts}, experts")
        if self.adversarial and self.method == "lora":
            raise ValueError(
                f"adversarial is {self.adversarial}, but method lora freezes the embeddings that it moves: expected "
                "method full with it"
            )
        if (self.average or self.adversarial) and self.launcher is not None:
            raise ValueError("average and adversarial need whole weights in each process: expected no launcher beside")
        if self.decoder_size % (2 * self.decoder_heads):
            raise ValueError(
                f"decoder_size is {self.decoder_size}: expected a multiple of {2 * self.decoder_heads}, "
                "twice the decoder_heads"
            )
        return self


class DriftSettings(Section):
    """When a night's figures count as drifted: relative changes against the mean of the runs before.

    A threshold is a share: 0.5 is half as much again, or half. Nights with fewer new reviews are not judged, nor are
    figures of fewer events (mentions, new names, unknown characters; ``min_mentions``) found or expected: they move by
    chance.
    """

    runs: Annotated[int, Field(ge=1)] = 14
    min_runs: Annotated[int, Field(ge=1)] = 3
    min_reviews: Annotated[int, Field(ge=1)] = 100
    min_mentions: Annotated[int, Field(ge=0)] = 50
    mentions_per_1000_chars: Annotated[float, Field(gt=0)] = 0.3
    mean_confidence: Annotated[float, Field(gt=0)] = 0.1
    never_seen_share: Annotated[float, Field(gt=0)] = 1.0
    unknown_char_share: Annotated[float, Field(gt=0)] = 1.0


class Settings(Section):
    """All settings of a run. Build it with ``load_settings``."""

    source: SourceSettings = SourceSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    lake: LakeSettings = LakeSettings()
    model: ModelSettings = ModelSettings()
    run: RunSettings = RunSettings()
    train: TrainSettings = TrainSettings()
    drift: DriftSettings = DriftSettings()

    @property
    def warehouse_at(self) -> Address:
        """Where the warehouse is; the sample has a file of its own beside the default one."""
        if self.warehouse.url is not None:
            return Address(self.warehouse.url.get_secret_value(), self.warehouse.schema_)
        name = "sample" if self.source.is_sample else "warehouse"
        return Address(f"sqlite:///ecner-data/{name}.db", self.warehouse.schema_)


def load_settings(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from an optional YAML file and, over it, the environment.

    Raises:
        UsageError: names every problem of both at once, and no value, which could be a secret.
    """
    values = _merge(_read_yaml(path) if path else {}, _read_environment(environ))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {_named(e)}: {_explain(e)}" for e in error.errors())
        raise UsageError(
            f"the settings hold {error.error_count()} problem(s):\n{problems}\n"
            f"mend them in {f'{path} or in ' if path else ''}{_ENV_PREFIX}<SECTION>__<KEY> variables"
        ) from None


def redacted(text: str) -> str:
    """A URL, or a message with URLs in it, with each password as ``***``, for logs, messages and the ledger.

    Where an end cannot be told, too much is hidden. What was hidden before stays as it is, and so does what follows it.
    """
    for secret in _SECRETS:
        text = secret.sub(r"\1***\2", text)
    return text


def _named(error: Any) -> str:
    """The setting as it stands in a file. A slip of the colon makes a key of a URL."""
    return redacted(".".join(map(str, error["loc"]))) or "all"


def _explain(error: Any) -> str:
    plain = {
        "extra_forbidden": "no such setting",
        "model_type": "expected a section with settings in it",
        "time_delta_parsing": "expected seconds, or a duration in ISO 8601 such as P2D or PT12H",
    }
    return plain.get(error["type"], str(error["msg"]).removeprefix("Value error, "))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the settings file {path}: {error.strerror}; name an existing file") from None
    except (yaml.YAMLError, ValueError) as error:
        # PyYAML's own message quotes the line, which may hold a password
        mark = getattr(error, "problem_mark", None)
        where = f": line {mark.line + 1}, {getattr(error, 'problem', None)}" if mark else ""
        raise UsageError(f"the settings file {path} is not YAML in UTF-8{where}") from None
    if not isinstance(loaded, dict | None):
        raise UsageError(f"the settings file {path} holds a {type(loaded).__name__}: expected sections such as source:")
    return loaded or {}


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """``ECNER_RUN__SHARDS=8`` as ``{"run": {"shards": "8"}}``; names have no case, an empty value is none.

    pydantic-settings would pass over sections that it does not know, and stop at the first value that is no JSON.
    """
    values: dict[str, Any] = {}
    for name, value in sorted(environ.items()):
        if value and name.upper().startswith(_ENV_PREFIX):
            nested: Any = value
            for part in reversed(name[len(_ENV_PREFIX) :].lower().split("__")):
                nested = {part: nested}
            values = _merge(values, nested)
    return values


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """``high`` over ``low``, section by section."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
