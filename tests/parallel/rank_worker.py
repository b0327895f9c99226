"""What torchrun starts: FOLDER holds the checkpoints; each rank writes what became of each case to results-RANK.json."""

import faulthandler
import json
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rank_cases import CASES, cases_of

from mistral_local.parallel.launch import find_launch

HANGS_AFTER_S = 200


def main(models: Path, results: Path) -> None:
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)  # a case that fails on one rank only may hang
    launch = find_launch()
    outcome = {}
    for name in cases_of(launch.world_size):
        try:
            CASES[name](models)
            outcome[name] = "passed"
        except Exception:  # noqa: BLE001 - the test that reads it fails
            outcome[name] = traceback.format_exc()
        (results / f"results-{launch.rank}.json").write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
