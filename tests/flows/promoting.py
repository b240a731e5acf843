"""A night as a flow, during which a model is promoted: between the plan, which pins one, and the first reading."""

import sys
from pathlib import Path

from ecner.nightly.extract import Extracted
from ecner.nightly.plan import Plan, Selection
from ecner.nightly.run import Night
from ecner.retraining.promotion import promote
from flows import extract


def main(config: Path, ref: str) -> None:
    read = Night.extract

    def promote_and_read(night: Night, shard: str, plan: Plan) -> Extracted:
        promote(night.settings, ref)
        return read(night, shard, plan)

    Night.extract = promote_and_read  # type: ignore[method-assign]
    extract.run(config, Selection(full=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
