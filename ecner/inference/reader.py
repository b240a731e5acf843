"""Reads texts in batches: whole, in windows where they are long, with a real probability for each mention."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path as FilePath
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ecner.config import ModelSettings
from ecner.errors import UsageError
from ecner.inference.windows import Window, cut
from ecner.labels import Span
from ecner.model.checkpoint import Checkpoint
from ecner.model.vocabulary import code_points, is_unreadable

Decoder = Literal["viterbi", "beam"]
BEAM = 5
_IMPOSSIBLE = -1e4  # emission of a tag that a character cannot have; finite, as the CRF asks
_LONG_CHARS = 65_536  # characters of texts over the window that are decoded together, padding included
_IN_FLIGHT = 2  # batches queued on the device while the host takes up the one before


@dataclass(frozen=True)
class Readings:
    """What was read, as columns: one row a mention (ordered by text, then start) and one a text.

    *Shape:* text, label, start, end, confidence (N,); chars, windows (number of texts,).
    """

    text: NDArray[np.int64]
    label: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    confidence: NDArray[np.float64]
    chars: NDArray[np.int64]
    windows: NDArray[np.int64]

    def spans(self, labels: Sequence[str]) -> list[list[Span]]:
        """The mentions of each text."""
        found: list[list[Span]] = [[] for _ in self.chars]
        for text, label, start, end in zip(
            self.text.tolist(), self.label.tolist(), self.start.tolist(), self.end.tolist(), strict=True
        ):
            found[text].append(Span(start, end, labels[label]))
        return found


class Path(NamedTuple):
    """One of the best tag paths of a text, with its posterior probability."""

    probability: float
    spans: list[Span]


class _Batch(NamedTuple):
    """Rows for the decoder: which texts they are, and what the model says of them."""

    texts: list[int]
    emissions: Tensor  # (B, T, K)
    mask: Tensor  # (B, T)


class _Decoded(NamedTuple):
    """A decoded batch whose tags are on their way to the host."""

    batch: _Batch
    tags: Tensor  # (B, T), on the host once ``ready``
    ready: torch.cuda.Event | None


class Reader:
    """A model on a device, ready to read.

    Args:
        checkpoint: tagger and vocabulary; the tagger is moved and put in evaluation mode.
        device: ``auto`` is CUDA where there is one.
        dtype: ``auto`` is bfloat16 on CUDA, float32 elsewhere.
        decoder: ``viterbi``, or ``beam`` for the best of the k best paths.
        max_batch_chars: characters in a batch, padding included; by default what suits the device.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        dtype: str = "auto",
        decoder: Decoder = "viterbi",
        max_batch_chars: int | None = None,
    ) -> None:
        self.device, self.dtype = resolve_device(device, dtype)
        self.tagger, self.vocabulary = checkpoint.tagger, checkpoint.vocabulary
        self.tagger.to(self.device)  # type: ignore[arg-type] # wrapped untyped
        for parameter in self.tagger.parameters():  # parameters alone: the decoder's rotary frequencies stay float32
            parameter.data = parameter.data.to(self.dtype)
        self.tagger.eval()  # type: ignore[no-untyped-call]
        self.decoder = decoder
        self.max_batch_chars = max_batch_chars or (65_536 if self.device.type == "cuda" else 2_048)
        self.tag_set = self.tagger.config.tag_set
        self.seconds = {"forward": 0.0, "decode": 0.0}  # on CUDA the time to queue the work, not to do it
        prefixes = [tag[0] for tag in self.tag_set.tags]
        self._outside = prefixes.index("O")
        self._starts = np.array([p in "BU" for p in prefixes])
        self._goes_on = np.array([p in "IL" for p in prefixes])
        self._label = np.array([self.tag_set.labels.index(t[2:]) if t[1:] else -1 for t in self.tag_set.tags])
        temperatures = self.tagger.config.temperatures or {}
        self._temperatures = np.array([temperatures.get(label, 1.0) for label in self.tag_set.labels])  # (labels,)
        self._span_tags = np.array(self.tag_set.span_tags, dtype=np.int64).reshape(-1, 4)  # (labels, 4)

    @classmethod
    def open(cls, folder: FilePath, settings: ModelSettings, *, max_batch_chars: int | None = None) -> "Reader":
        """A model folder, to be read with as the settings say.

        Raises:
            ModelError: the model cannot be loaded.
            UsageError: a device that is not there.
        """
        return cls(
            Checkpoint.load(folder),
            device=settings.device,
            dtype=settings.dtype,
            decoder=settings.decoder,
            max_batch_chars=max_batch_chars,
        )

    @torch.inference_mode()
    def read(self, texts: Sequence[str]) -> Readings:
        """Reads each text whole, in batches of similar length that are cut the same way each time."""
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        pending: deque[_Decoded] = deque()
        parts: list[NDArray[np.float64]] = [np.empty((0, 5))]
        for batch in self._batches(texts, lengths):
            pending.append(self._decode(batch))
            if len(pending) == _IN_FLIGHT:
                parts.append(self._take_up(pending.popleft()))
        parts.extend(self._take_up(decoded) for decoded in pending)
        rows = np.concatenate(parts)  # (N, 5)
        rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
        text, label, start, end = rows[:, :4].T.astype(np.int64)
        windows = np.array([len(self._windows(n)) for n in lengths.tolist()], dtype=np.int64)
        return Readings(text, label, start, end, rows[:, 4], lengths, windows)

    @torch.inference_mode()
    def best_paths(self, texts: Sequence[str], k: int) -> list[list[Path]]:
        """The k best tag paths of each text, best first, with their posteriors; all where there are fewer."""
        crf = self.tagger.crf
        found = [[Path(1.0, [])] for _ in texts]  # an empty text has this path alone
        for batch in self._batches(texts, np.array([len(text) for text in texts], dtype=np.int64)):
            emissions = batch.emissions.double()  # the share is a small difference of two long sums
            tags, scores = crf.k_best(emissions, batch.mask, k)  # (B, k, T), (B, k)
            shares = (scores - crf.log_partition(emissions, batch.mask)[:, None]).exp().clamp(max=1)  # (B, k)
            passed = emissions.gather(2, tags.transpose(1, 2))  # (B, T, k)
            is_possible = scores.isfinite() & (passed != _IMPOSSIBLE).all(1)  # (B, k)
            for text, paths, row, is_path in zip(
                batch.texts, tags.tolist(), shares.tolist(), is_possible.tolist(), strict=True
            ):
                found[text] = [
                    Path(share, self.tag_set.decode(path[: len(texts[text])]))
                    for path, share in compress(zip(paths, row, strict=True), is_path)
                ]
        return found

    def _batches(self, texts: Sequence[str], lengths: NDArray[np.int64]) -> Iterator[_Batch]:
        """Emissions of all texts: whole ones batch by batch, longer ones joined from their windows."""
        window = self.tagger.config.window
        order = np.argsort(-lengths, kind="stable")
        long = order[lengths[order] > window]
        for rows in pack(lengths[long], _LONG_CHARS):
            yield self._read_long(long[rows].tolist(), texts)
        whole = order[(lengths[order] <= window) & (lengths[order] > 0)]
        for rows in pack(lengths[whole], self.max_batch_chars):
            indices = whole[rows].tolist()
            yield self._emit(indices, [texts[i] for i in indices])

    def _read_long(self, indices: list[int], texts: Sequence[str]) -> _Batch:
        """Emissions of texts over the window, each character's from the window that sees it best.

        In float64: a path's score grows with the text, and float32 then no longer tells near paths apart.
        """
        windows = [(i, w) for i in indices for w in self._windows(len(texts[i]))]
        rows = max(1, self.max_batch_chars // self.tagger.config.window)
        kept: dict[int, list[Tensor]] = {i: [] for i in indices}
        for first in range(0, len(windows), rows):
            group = windows[first : first + rows]
            batch = self._emit([i for i, _ in group], [texts[i][w.start : w.end] for i, w in group])
            for row, (i, w) in zip(batch.emissions, group, strict=True):
                kept[i].append(row[w.keep_start - w.start : w.keep_end - w.start])
        joined = pad_sequence([torch.cat(kept[i]).double() for i in indices], batch_first=True)  # (B, T, K)
        lengths = np.array([len(texts[i]) for i in indices])
        return _Batch(indices, joined, self._to_device(np.arange(joined.shape[1])[None, :] < lengths[:, None]))

    def _windows(self, length: int) -> list[Window]:
        config = self.tagger.config
        return list(cut(length, window=config.window, overlap=config.overlap))

    def _emit(self, indices: list[int], texts: list[str]) -> _Batch:
        """The model's forward pass over texts that fit the window."""
        began = time.perf_counter()
        lengths = np.array([len(text) for text in texts])
        points = code_points("".join(texts))
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]  # (B, T)
        ids = np.full(mask.shape, self.tagger.config.pad_token_id, dtype=np.int64)
        ids[mask] = self.vocabulary.table[points]
        device_mask = self._to_device(mask)
        emissions: Tensor = self.tagger(self._to_device(ids), device_mask).logits.float()
        unreadable = is_unreadable(points)
        if unreadable.any():
            barred = np.zeros(mask.shape, dtype=bool)
            barred[mask] = unreadable
            others = torch.arange(emissions.shape[-1], device=self.device) != self._outside
            emissions = emissions.masked_fill(self._to_device(barred)[..., None] & others, _IMPOSSIBLE)
        self.seconds["forward"] += time.perf_counter() - began
        return _Batch(indices, emissions, device_mask)

    def _to_device(self, array: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def _decode(self, batch: _Batch) -> _Decoded:
        """Queues the decoding of a batch and the copy of its tags to the host."""
        began = time.perf_counter()
        crf = self.tagger.crf
        if self.decoder == "viterbi":
            tags, _ = crf.viterbi(batch.emissions, batch.mask)
        else:
            tags = crf.k_best(batch.emissions, batch.mask, BEAM)[0][:, 0]
        tags = tags.where(batch.mask, self._outside)
        ready = None
        if self.device.type == "cuda":
            tags = tags.to("cpu", non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(torch.cuda.current_stream(self.device))  # which need not be the current device's
        self.seconds["decode"] += time.perf_counter() - began
        return _Decoded(batch, tags, ready)

    def _take_up(self, decoded: _Decoded) -> NDArray[np.float64]:
        """Mentions of a decoded batch: text, label, start, end, confidence. *Shape:* (n, 5)."""
        if decoded.ready is not None:
            decoded.ready.synchronize()
        began = time.perf_counter()
        batch, tags = decoded.batch, decoded.tags.numpy()
        following = np.pad(tags[:, 1:], ((0, 0), (0, 1)), constant_values=self._outside)
        rows, starts = np.nonzero(self._starts[tags])
        is_last = (tags != self._outside) & ~self._goes_on[following]
        _, lasts = np.nonzero(is_last)  # one for each start, in its order
        labels = self._label[tags[rows, starts]]
        first, inside, last, single = self._span_tags[labels].T
        alone = starts == lasts
        spans = {
            "rows": rows,
            "starts": starts,
            "ends": lasts + 1,
            "first": np.where(alone, single, first),
            "inside": inside.copy(),
            "last": np.where(alone, single, last),
        }
        moved = {name: self._to_device(column) for name, column in spans.items()}
        posteriors = self.tagger.crf.span_log_posteriors(batch.emissions, batch.mask, **moved)
        confidence = tempered(posteriors.cpu().numpy(), self._temperatures[labels])
        self.seconds["decode"] += time.perf_counter() - began
        return np.column_stack((np.array(batch.texts)[rows], labels, starts, lasts + 1, confidence))


def tempered(log_posteriors: NDArray[np.float64], temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities whose log-odds are those of the posteriors, divided by the temperatures; at 1 the posteriors.

    Platt 1999 without a shift; Guo et al. 2017, "On Calibration of Modern Neural Networks", 4.2, for two classes.

    *Shape:* both (N,); returns (N,).
    """
    posteriors = np.exp(np.minimum(log_posteriors, 0.0))
    with np.errstate(divide="ignore", over="ignore"):  # posteriors of 1 and 0 have infinite log-odds, and stay
        odds = log_posteriors - np.log(-np.expm1(np.minimum(log_posteriors, 0.0)))
        return np.where(temperatures == 1.0, posteriors, 1 / (1 + np.exp(-odds / temperatures)))


def pack(lengths: NDArray[np.int64], budget: int) -> Iterator[slice]:
    """Cuts texts into batches of at most ``budget`` characters, padding included, but of one text at least.

    *Shape:* lengths (N,), descending.
    """
    first = 0
    while first < len(lengths):
        size = max(1, budget // max(1, int(lengths[first])))
        yield slice(first, first + size)
        first += size


def resolve_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """The device and dtype to read with; ``auto`` is CUDA where there is one and bfloat16 on it.

    Raises:
        UsageError: no such device, or not on this machine.
    """
    has_cuda = torch.cuda.is_available()
    try:
        chosen = torch.device(("cuda" if has_cuda else "cpu") if device == "auto" else device)
    except RuntimeError:
        raise UsageError(f"device is {device!r}: expected auto, cpu, cuda or cuda:N") from None
    if chosen.type not in {"cpu", "cuda"}:
        raise UsageError(f"device is {device!r}: expected auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not has_cuda:
        raise UsageError(f"device is {device!r}, but torch finds no CUDA here: expected auto or cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device is {device!r}: torch finds {torch.cuda.device_count()} here, counted from 0")
    if dtype == "auto":
        return chosen, torch.bfloat16 if chosen.type == "cuda" else torch.float32
    return chosen, {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
