"""Settings: defaults here, under a YAML file, under ``ECNER_<SECTION>__<KEY>`` variables; frozen, validated at once."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource

from ecner.errors import UsageError
from ecner.resources import asset

_ENV_PREFIX = "ECNER_"


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not an IANA time zone such as UTC or Asia/Shanghai")
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys are errors, values are never echoed in error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SourceColumns(Section):
    """The source's names for our columns; only review_id and text must be there."""

    review_id: str = "review_id"
    text: str = "text"
    product_id: str = "product_id"
    rating: str = "rating"
    created_at: str = "created_at"
    updated_at: str = "updated_at"


class SourceSettings(Section):
    """Where raw reviews come from, and how they are read incrementally."""

    uri: SecretStr | None = None
    columns: SourceColumns = SourceColumns()
    watermark_column: str | None = None
    lookback: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(days=1)
    time_zone: TimeZone = "UTC"

    @property
    def is_sample(self) -> bool:
        """Whether the shipped sample is read, as no source was named."""
        return self.uri is None

    @property
    def location(self) -> str:
        """The source to open."""
        return str(asset("sample/reviews.parquet")) if self.uri is None else self.uri.get_secret_value()


class WarehouseSettings(Section):
    """The database that the tables are written to."""

    url: SecretStr | None = None


class LakeSettings(Section):
    """The folder of run files (rows, shards, spans), and how long those of ended runs are kept."""

    uri: str = "ecner-data/lake"
    keep_days: Annotated[int, Field(ge=0)] = 7


class ModelSettings(Section):
    """Which model reads, on what, and how its labels become entity types."""

    ref: str = "champion"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    decoder: Literal["viterbi", "beam"] = "viterbi"
    min_confidence: Mapping[str, Share] = Field(default_factory=dict)
    labels: Mapping[str, str] = Field(
        default_factory=lambda: {"HCCX": "product", "HPPX": "brand", "XH": "model_number", "MISC": "misc"}
    )


class RunSettings(Section):
    """How a night is cut and when it refuses to publish."""

    shards: Annotated[int, Field(ge=1, le=4096)] = 4
    max_batch_chars: Annotated[int, Field(ge=512)] | None = None
    time_zone: TimeZone = "UTC"


class TrainSettings(Section):
    """One training: what to start from, the sizes of what is new, and the recipe."""

    base: str = "default"
    scheme: Literal["BIO", "BILOU"] = "BIO"
    architecture: Literal["hybrid", "bert-crf"] = "hybrid"
    encoder_layers: Annotated[int, Field(ge=1)] | None = None
    decoder_base: str | None = None
    decoder_size: Annotated[int, Field(ge=8)] = 256
    decoder_layers: Annotated[int, Field(ge=1)] = 2
    decoder_heads: Annotated[int, Field(ge=1)] = 4
    bidirectional: bool = True
    experts: Annotated[int, Field(ge=1)] = 8
    experts_per_token: Annotated[int, Field(ge=1)] = 2
    expert_size: Annotated[int, Field(ge=8)] = 512
    skip: bool = True
    dropout: Share = 0.1
    attention_dropout: Share = 0.0  # at 0 the fused attention kernels serve in training too: three times faster
    epochs: Annotated[float, Field(gt=0)] = 8
    encoder_lr: Annotated[float, Field(gt=0)] = 1.5e-4
    head_lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = 0.1
    batch_chars: Annotated[int, Field(ge=64)] = 1500
    patience: Annotated[int, Field(ge=1)] = 2
    seed: int = 0


class Settings(BaseSettings):
    """All settings of a run. Build it with ``load_settings``."""

    model_config = {
        "frozen": True,
        "extra": "forbid",
        "hide_input_in_errors": True,
        "protected_namespaces": (),
    }

    source: SourceSettings = SourceSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    lake: LakeSettings = LakeSettings()
    model: ModelSettings = ModelSettings()
    run: RunSettings = RunSettings()
    train: TrainSettings = TrainSettings()

    @property
    def warehouse_url(self) -> str:
        """The warehouse's SQLAlchemy URL; the sample has a file of its own beside the default one."""
        if self.warehouse.url is not None:
            return self.warehouse.url.get_secret_value()
        return f"sqlite:///ecner-data/{'sample' if self.source.is_sample else 'warehouse'}.db"


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from an optional YAML file and the environment.

    Raises:
        UsageError: names every problem of both at once.
    """
    environ = os.environ if environ is None else environ
    values = _merge(_read_yaml(path) if path else {}, _read_environment(environ))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {_explain(e)}" for e in error.errors())
        raise UsageError(
            f"the settings hold {error.error_count()} problem(s):\n{problems}\n"
            f"mend them in {path or 'the environment'}{f' or in {_ENV_PREFIX}* variables' if path else ''}"
        ) from None


def redacted(uri: str) -> str:
    """A URL with its password as ``***``, for logs, messages and the ledger."""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", uri)


def _explain(error: Any) -> str:
    return "no such setting" if error["type"] == "extra_forbidden" else str(error["msg"])


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the settings file {path} is not YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UsageError(f"the settings file {path} holds a {type(loaded).__name__}: expected sections such as source:")
    return loaded


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Values from ``ECNER_SECTION__KEY``; pydantic-settings parses them but passes over unknown sections in silence."""
    names = {name for name in environ if name.upper().startswith(_ENV_PREFIX)}
    sections = {name.upper().removeprefix(_ENV_PREFIX).split("__")[0].lower() for name in names}
    if unknown := sorted(sections - Settings.model_fields.keys()):
        raise UsageError(
            f"unknown settings section(s) in the environment: {', '.join(_ENV_PREFIX + u.upper() for u in unknown)}; "
            f"expected {_ENV_PREFIX}<SECTION>__<KEY> with a section of {', '.join(Settings.model_fields)}"
        )
    return dict(
        EnvSettingsSource(Settings, env_prefix=_ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True)()
        if environ is os.environ
        else _explicit_environment(environ)
    )


def _explicit_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(Settings, env_prefix=_ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True)
    source.env_vars = {name.lower(): value for name, value in environ.items() if value}
    return dict(source())


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """``high`` over ``low``, section by section."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
