"""Speed of the reading path beside the bare forward pass and transformers' pipeline: same texts, one run."""

import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForTokenClassification,
    BertTokenizer,
    Qwen2Config,
    TokenClassificationPipeline,
)

from ecner.errors import DataError
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint, build, encoder_config

Preset = Literal["small", "base"]
REPETITIONS = 3
PIPELINE_BATCH = 32
# Characters read in a repetition: enough to keep a GPU busy; on a CPU, what it reads in a minute or two.
CHARACTERS = {
    ("cuda", "small"): 1_000_000,
    ("cuda", "base"): 200_000,
    ("cpu", "small"): 10_000,
    ("cpu", "base"): 500,
}
_MATMUL_SIZES = {"cuda": (4096, 8192, 16384), "cpu": (1024,)}
_MATMUL_TRIALS = 5


@dataclass(frozen=True)
class Arm:
    """What one way of reading did: characters a repetition, and the seconds that each repetition took."""

    characters: int
    seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Characters a second, by the median repetition."""
        return self.characters / statistics.median(self.seconds)


@dataclass(frozen=True)
class Profile:
    """Shares of the reading path's time, 1 in sum: model, CRF (paths and confidences), and all else."""

    forward: float
    decode: float
    rest: float


@dataclass(frozen=True)
class BenchResult:
    """Figures of one run.

    The arms read the same ``texts`` texts of ``characters`` characters; ``bare`` leaves out what fills no row
    and ``pipeline`` what lies beyond the window. ``flops_per_character`` is what the bare pass costs, a
    multiplication and its addition being two; ``peak_flops`` is the best speed of square matrix products in
    ``dtype``, a second.
    """

    preset: Preset
    device: str
    device_name: str
    dtype: str
    threads: int
    torch_version: str
    transformers_version: str
    parameters: int
    texts: int
    characters: int
    bare: Arm
    reading: Arm
    pipeline: Arm
    profile: Profile
    flops_per_character: float
    peak_flops: float

    @property
    def reading_to_bare(self) -> float:
        """Speed of the whole reading path over that of the bare forward pass."""
        return self.reading.rate / self.bare.rate

    @property
    def reading_to_pipeline(self) -> float:
        """Speed of the whole reading path over that of transformers' pipeline."""
        return self.reading.rate / self.pipeline.rate

    @property
    def peak_share(self) -> float:
        """Share of the device's measured matmul peak that the bare forward pass reaches."""
        return self.bare.rate * self.flops_per_character / self.peak_flops


def run_bench(
    texts: Sequence[str],
    *,
    device: str = "auto",
    preset: Preset = "small",
    checkpoint: Checkpoint,
    characters: int | None = None,
) -> BenchResult:
    """Times the three arms on the same texts, in turns, after a repetition that is not counted.

    Args:
        texts: read in order, and over again, until ``characters`` are reached; empty ones are passed over.
        device: ``auto`` is CUDA in bfloat16 where there is one, else the CPU in float32.
        preset: ``small`` is the checkpoint itself; ``base`` a tagger of bert-base's and Qwen2.5-0.5B's sizes
            with random weights and the checkpoint's vocabulary and tags.
        checkpoint: the model; moved to the device.
        characters: read in each repetition; by default ``CHARACTERS`` of the device and preset.

    Raises:
        DataError: the texts hold no character.
    """
    reader = Reader(base_sized(checkpoint) if preset == "base" else checkpoint, device=device)
    kind = "cuda" if reader.device.type == "cuda" else "cpu"
    texts = take(texts, characters or CHARACTERS[kind, preset])
    bare, reading, pipeline, peak_flops = _take_turns(reader, texts, _MATMUL_SIZES[kind])
    return BenchResult(
        preset=preset,
        device=str(reader.device),
        device_name=_device_name(reader.device),
        dtype=str(reader.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        transformers_version=transformers.__version__,
        parameters=sum(p.numel() for p in reader.tagger.parameters()),
        texts=len(texts),
        characters=sum(map(len, texts)),
        bare=bare,
        reading=reading,
        pipeline=pipeline,
        profile=profile(reader, texts),
        flops_per_character=count_flops(reader, row_length(reader, texts)),
        peak_flops=peak_flops,
    )


def to_json(result: BenchResult) -> str:
    """The figures as a JSON object: the fields of BenchResult by name, and what follows from them.

    Keys: preset, device, device_name, dtype, threads, torch_version, transformers_version, parameters, texts,
    characters; bare, reading and pipeline, each with characters, seconds (a list, one a repetition) and rate
    (characters a second); profile with forward, decode and rest; flops_per_character, peak_flops, peak_share,
    reading_to_bare, reading_to_pipeline.
    """
    figures = asdict(result)
    for arm in ("bare", "reading", "pipeline"):
        figures[arm]["rate"] = getattr(result, arm).rate
    for ratio in ("reading_to_bare", "reading_to_pipeline", "peak_share"):
        figures[ratio] = getattr(result, ratio)
    return json.dumps(figures, ensure_ascii=False, indent=2)


def render(result: BenchResult) -> str:
    """The figures as a small table of plain text."""
    version = result.transformers_version
    rows = (
        ("bare forward pass, packed rows", result.bare, result.reading_to_bare),
        ("whole reading path", result.reading, 1.0),
        (f"pipeline of transformers {version}, encoder alone", result.pipeline, result.reading_to_pipeline),
    )
    table = "\n".join(f"{name:48}{arm.rate:>16,.0f}{ratio:>16.2f}" for name, arm, ratio in rows)
    shares = result.profile
    return f"""\
{result.preset}: {result.parameters / 1e6:,.1f} M parameters, {result.dtype}
{result.device_name}, {result.threads} threads, torch {result.torch_version}
{result.texts:,} texts, {result.characters:,} characters, median of {len(result.reading.seconds)} repetitions

{"":48}{"characters/s":>16}{"reading / this":>16}
{table}

reading path: {shares.forward:.1%} forward, {shares.decode:.1%} decode, {shares.rest:.1%} rest
bare forward: {result.flops_per_character / 1e6:,.1f} MFLOP a character, {result.peak_share:.1%} of the \
measured {result.dtype} peak of {result.peak_flops / 1e12:,.2f} TFLOP/s
"""


def take(texts: Sequence[str], characters: int) -> list[str]:
    """Texts in order, and over again, that hold exactly so many characters; the last one is cut."""
    pool = [text for text in texts if text]
    if not pool:
        raise DataError(f"nothing to read in {len(texts)} texts: expected at least one character")
    taken: list[str] = []
    for text in itertools.cycle(pool):
        if characters <= 0:
            break
        taken.append(text[:characters])
        characters -= len(text)
    return taken


def base_sized(checkpoint: Checkpoint) -> Checkpoint:
    """A tagger of the sizes of bert-base and Qwen2.5-0.5B: random weights, a given vocabulary and tags."""
    decoder = Qwen2Config(
        vocab_size=1, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(
            checkpoint.tagger.config.tag_set,
            encoder=encoder_config(size=768, layers=12, heads=12),
            decoder=decoder,
            vocabulary=checkpoint.vocabulary,
            expert_size=2 * decoder.hidden_size,
        )


def row_length(reader: Reader, texts: Sequence[str]) -> int:
    """Characters in a packed row: the texts' mean, so that attention costs no more there than in reading."""
    window: int = reader.tagger.config.window
    return min(window, sum(map(len, texts)) // len(texts))


def packed(reader: Reader, texts: Sequence[str]) -> list[Tensor]:
    """The texts' characters end to end in full rows, in batches of the reader's size, on its device.

    *Shape:* each (B, T) of ids, T the same.
    """
    length = row_length(reader, texts)
    ids = reader.vocabulary.encode("".join(texts)).astype(np.int64)
    rows = torch.from_numpy(ids[: len(ids) // length * length].reshape(-1, length))
    return list(torch.split(rows.to(reader.device), max(1, reader.max_batch_chars // length)))


def encoder_pipeline(reader: Reader) -> TokenClassificationPipeline:
    """The pipeline of transformers around the reader's own encoder; a random classifier of the same tags."""
    config: Any = deepcopy(reader.tagger.config.encoder)
    config.id2label = dict(enumerate(reader.tag_set.tags))
    config.label2id = {tag: i for i, tag in config.id2label.items()}
    model: Any = AutoModelForTokenClassification.from_config(config)  # type: ignore[no-untyped-call]
    setattr(model, model.base_model_prefix, reader.tagger.encoder)
    tokenizer = BertTokenizer(
        vocab=reader.vocabulary.ids, do_lower_case=False, model_max_length=reader.tagger.config.window + 2
    )
    return TokenClassificationPipeline(  # type: ignore[no-untyped-call]
        model=model.to(dtype=reader.dtype).eval(), tokenizer=tokenizer, device=reader.device,
        batch_size=PIPELINE_BATCH, aggregation_strategy="simple",
    )  # fmt: skip


def profile(reader: Reader, texts: Sequence[str]) -> Profile:
    """Where the reading path's time goes, in a pass that waits for the device around each forward pass."""
    clock = _ForwardClock(reader.device)
    hooks = (
        reader.tagger.register_forward_pre_hook(clock.begin),
        reader.tagger.register_forward_hook(clock.end),
    )
    decoded_before = reader.seconds["decode"]
    total = _seconds(lambda: reader.read(texts), reader.device)
    for hook in hooks:
        hook.remove()
    decode = reader.seconds["decode"] - decoded_before + clock.queued
    return Profile(clock.forward / total, decode / total, (total - clock.forward - decode) / total)


def count_flops(reader: Reader, length: int) -> float:
    """Floating-point operations that a character costs in rows of a length, as torch counts matrix products.

    Of the experts, only the chosen ones run and count. Attention is counted over all pairs of a row.
    """
    ids = torch.zeros(1, length, dtype=torch.int64, device=reader.device)
    # as plain products, attention is counted on every device; in inference mode linear layers would be missed
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reader.tagger(ids, torch.ones_like(ids, dtype=torch.bool))
    return float(counter.get_total_flops() / length)


def matmul_peak(device: torch.device, dtype: torch.dtype, sizes: Sequence[int]) -> float:
    """Floating-point operations a second of the best of several n x n products, 2 n^3 each."""
    best = 0.0
    for n in sizes:
        left, right = torch.randn(2, n, n, device=device).to(dtype)
        product = partial(torch.matmul, left, right)
        best = max(best, 2 * n**3 / min(_seconds(product, device) for _ in range(_MATMUL_TRIALS)))
    return best


class _ForwardClock:
    """Hooks that time forward passes, and what the device still had queued before each: the decoding."""

    def __init__(self, device: torch.device) -> None:
        self.forward = self.queued = self._began = 0.0
        self._device = device

    def begin(self, *_: Any) -> None:
        called = time.perf_counter()
        _wait_for(self._device)
        self._began = time.perf_counter()
        self.queued += self._began - called

    def end(self, *_: Any) -> None:
        _wait_for(self._device)
        self.forward += time.perf_counter() - self._began


def _take_turns(reader: Reader, texts: Sequence[str], matmul_sizes: Sequence[int]) -> tuple[Arm, Arm, Arm, float]:
    """The three arms and the matmul peak, in turns, so that whatever else runs slows all alike."""
    batches = [(ids, torch.ones_like(ids, dtype=torch.bool)) for ids in packed(reader, texts)]
    pipeline = encoder_pipeline(reader)
    # a tokenizer takes no lone surrogate
    cut = [text[: reader.tagger.config.window].encode("utf-8", "replace").decode() for text in texts]

    @torch.inference_mode()
    def forward() -> None:
        for ids, mask in batches:
            reader.tagger(ids, mask)

    runs: tuple[Callable[[], object], ...] = (forward, lambda: reader.read(texts), lambda: pipeline(cut))
    seconds: list[list[float]] = []
    peaks: list[float] = []
    for _ in range(1 + REPETITIONS):
        seconds.append([_seconds(run, reader.device) for run in runs])
        peaks.append(matmul_peak(reader.device, reader.dtype, matmul_sizes))
    characters = (sum(ids.numel() for ids, _ in batches), sum(map(len, texts)), sum(map(len, cut)))
    columns = zip(*seconds[1:], strict=True)  # the first turn warms up
    bare, reading, piped = (Arm(n, column) for n, column in zip(characters, columns, strict=True))
    return bare, reading, piped, max(peaks)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one run, the device's work included."""
    _wait_for(device)
    began = time.perf_counter()
    run()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
