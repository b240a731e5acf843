"""A night as a flow that loses a worker: the first to read is killed with half of its shard read, and no other."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prefect import task
from prefect.cache_policies import NO_CACHE

from ecner.config import LakeSettings, ModelSettings
from ecner.inference.reader import Reader
from ecner.nightly.extract import Extracted
from ecner.nightly.extract import extract_shard as read_shard
from ecner.nightly.scope import ReadingModel, Selection
from flows import extract

READ_LOG = "read.log"
DEAD = "dead"


@task(cache_policy=NO_CACHE)
def extract_shard(
    shard: str, model: ReadingModel, settings: ModelSettings, lake: LakeSettings, batch_chars: int | None
) -> Extracted:
    """The task of the flow, but for what happens inside the reader."""
    read = Reader.read

    def read_or_die(self: Reader, texts: list[str]) -> Any:
        with Path(READ_LOG).open("a") as log:
            log.write(f"{shard}\n")
        with suppress(FileExistsError):
            Path(DEAD).touch(exist_ok=False)
            read(self, texts[: len(texts) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, texts)

    with patch.object(Reader, "read", read_or_die):
        return read_shard(shard, model, settings, lake=lake, batch_chars=batch_chars)


if __name__ == "__main__":
    extract.extract_shard = extract_shard
    print(extract.run(Path(sys.argv[1]), Selection(), debug=True).to_text())
