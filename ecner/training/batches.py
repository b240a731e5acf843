"""Labelled texts as training batches of equal length, so that hardly a padded character is computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ecner.data.rows import LabelledText
from ecner.inference.reader import pack
from ecner.labels import TagSet
from ecner.model.vocabulary import Vocabulary

_IGNORED = -100


@dataclass(frozen=True)
class Example:
    """A text as ids of its characters and of their tags. *Shape:* both (T,)."""

    ids: NDArray[np.int32]
    tags: NDArray[np.int64]


class TaggedTexts(Dataset[Example]):
    """Encoded examples; empty texts are left out, ones longer than the window are cut in two or more.

    Raises:
        ValueError: a span that cannot be encoded.
    """

    def __init__(self, texts: Sequence[LabelledText], *, vocabulary: Vocabulary, tag_set: TagSet, window: int) -> None:
        self.examples: list[Example] = []
        for text in texts:
            ids = vocabulary.encode(text.text)
            tags = np.array(tag_set.encode(text.spans, len(text.text)), dtype=np.int64)
            for start, end in _pieces(text, window):
                self.examples.append(Example(ids[start:end], tags[start:end]))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """*Shape:* (number of examples,)."""
        return np.array([len(e.ids) for e in self.examples], dtype=np.int64)


class LengthBatches(Sampler[list[int]]):
    """Batches of neighbours in length, cut by characters, in an order drawn anew each epoch.

    Ties of length are broken at random, so the same texts rarely meet twice; the number of batches stays. It is a
    multiple of the number of processes, which take turns: the first batches of an epoch come twice where they must.
    """

    def __init__(self, lengths: NDArray[np.int64], *, batch_chars: int, seed: int, processes: int = 1) -> None:
        self.lengths, self.batch_chars, self.seed, self.epoch = lengths, batch_chars, seed, 0
        self._cuts = list(pack(np.sort(lengths)[::-1], batch_chars))
        self._length = -(-len(self._cuts) // processes) * processes

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch's order; the Trainer calls it, on resuming too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = np.lexsort((random.random(len(self.lengths)), -self.lengths))
        for batch in np.resize(random.permutation(len(self._cuts)), self._length):
            yield order[self._cuts[batch]].tolist()


def collate(
    examples: Sequence[Example], *, pad_token_id: int, hidden_share: float = 0.0, hidden_token_id: int = 0
) -> dict[str, Tensor]:
    """Pads examples on the right, with a random share of the characters hidden behind one token.

    *Shape:* input_ids, attention_mask, labels (B, T).
    """
    length = max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), length), pad_token_id, dtype=torch.long)
    labels = torch.full((len(examples), length), _IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.from_numpy(example.ids)
        labels[row, : len(example.tags)] = torch.from_numpy(example.tags)
    if hidden_share:
        is_hidden = (torch.rand(ids.shape) < hidden_share) & (labels != _IGNORED)
        ids = ids.masked_fill(is_hidden, hidden_token_id)
    return {"input_ids": ids, "attention_mask": (labels != _IGNORED).long(), "labels": labels}


def _pieces(text: LabelledText, window: int) -> Iterator[tuple[int, int]]:
    """Cuts a text into pieces that fit the window, never through a mention that fits it itself."""
    start, length = 0, len(text.text)
    while start < length:
        end = min(start + window, length)
        inside = next((s.start for s in text.spans if s.start < end < s.end), None)
        if inside is not None and inside > start:
            end = inside
        elif inside is not None:  # longer than the window: such a mention cannot be taught
            raise ValueError(f"a mention at {start} has over {window} characters: expected it within a window")
        yield start, end
        start = end
