"""Several ranks compute what one process does: one launch of each size runs every case, and a test reads each."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from rank_cases import cases_of
from rank_models import write_models
from ranks import torchrun

pytestmark = pytest.mark.long

WORKER = str(Path(__file__).with_name("rank_worker.py"))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="session")
def outcome_of(models, tmp_path_factory):
    """(number of ranks) -> for each rank what became of each case."""

    @cache
    def run(num_ranks):
        results = tmp_path_factory.mktemp(f"ranks-{num_ranks}")
        finished = torchrun(num_ranks, WORKER, str(models), str(results))
        assert finished.returncode == 0, finished.stderr[-4000:]
        return [json.loads((results / f"results-{rank}.json").read_text()) for rank in range(num_ranks)]

    return run


@pytest.mark.gpu
def test_as_many_ranks_as_gpus_compute_what_one_process_does(outcome_of):
    num_ranks = max(num for num in (1, 2, 4) if num <= max(1, torch.cuda.device_count()))
    outcomes = enumerate(outcome_of(num_ranks))
    assert not {(rank, case): said for rank, each in outcomes for case, said in each.items() if said != "passed"}


@pytest.mark.parametrize(("num_ranks", "case"), [(num, case) for num in (1, 2, 4) for case in cases_of(num)])
def test_ranks_compute_what_one_process_does(outcome_of, num_ranks, case):
    for rank, outcome in enumerate(outcome_of(num_ranks)):
        assert outcome[case] == "passed", f"rank {rank}: {outcome[case]}"
