"""A night as a flow, during which a model is promoted: between the plan, which pins one, and the first reading."""

import sys
from pathlib import Path
from typing import Any

from ecner.config import load_settings
from ecner.nightly.extract import Extracted
from ecner.nightly.scope import Selection
from ecner.retraining.promotion import promote
from flows import extract


def main(config: Path, ref: str) -> None:
    read = extract.read_shard

    def promote_and_read(*args: Any, **options: Any) -> Extracted:
        promote(load_settings(config), ref)
        return read(*args, **options)

    extract.read_shard = promote_and_read
    extract.run(config, Selection(full=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
