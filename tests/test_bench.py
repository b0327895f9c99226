"""mistral-bench: figures with their conditions, and floors that follow from the shapes."""

import json
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint

from mistral_local.args import TransformerArgs
from mistral_local.bench.ceilings import Ceilings
from mistral_local.bench.floors import decode_floor_s, prefill_floor_s
from mistral_local.bench.load import Workload
from mistral_local.bench.shapes import SHAPES
from mistral_local.cli.bench import http, run, serving, throughput
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.errors import CheckpointError, MistralLocalError, UsageError

CEILINGS = Ceilings(read_bytes_per_s=4.3e12, flops=790e12)


def test_the_decode_floor_of_7b_is_weights_and_cache_over_bandwidth() -> None:
    args = TransformerArgs.from_dict(dict(SHAPES["7b"]))
    step = decode_floor_s(args, CEILINGS, batch_size=1, context=1024, itemsize=2)
    assert 1 / step == pytest.approx(299, rel=0.01)
    step = decode_floor_s(args, CEILINGS, batch_size=64, context=1024, itemsize=2)
    assert 64 / step == pytest.approx(12_061, rel=0.01)


def test_the_prefill_floor_of_7b_is_its_products_over_the_rate() -> None:
    args = TransformerArgs.from_dict(dict(SHAPES["7b"]))
    assert prefill_floor_s(args, CEILINGS, num_tokens=2048, itemsize=2) == pytest.approx(0.038, rel=0.03)


def test_a_run_reports_every_figure_with_its_conditions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "tiny", dtype=torch.bfloat16)
    output = tmp_path / "figures.json"
    run(str(folder), batch_sizes="1,3", prompt_tokens=8, new_tokens=4, repeats=1, device="cpu", output=str(output))
    figures = json.loads(output.read_text())
    assert set(figures) == {
        "ceilings", "conditions", "decode", "load", "peak_memory_bytes", "prefill", "ranks", "weight_bytes",
    }  # fmt: skip
    assert set(figures["decode"]) == {"1", "3"}
    assert figures["conditions"] | {"model": "tiny", "dtype": "bfloat16", "prompt_tokens": 8} == figures["conditions"]
    shown = capsys.readouterr().out
    assert "decode, batch 3" in shown
    assert "% of the limit" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "70b"}, "--shape: expected one of 350m, moe-400m, 7b, got '70b'"),
        ({"batch_sizes": "1,x"}, "--batch_sizes: expected numbers such as 1,8"),
        ({"batch_sizes": "0"}, "--batch_sizes"),
        ({"new_tokens": 1}, "--new_tokens must be at least 2"),
    ],
)
def test_flags_that_cannot_be_are_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    with pytest.raises(UsageError, match=message):
        run(str(folder), **options)  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        run("/nowhere/at/all")


def test_a_workload_is_the_same_for_the_same_seed_and_arrives_at_its_rate() -> None:
    workload = Workload(num_requests=400, prompt_tokens=20, new_tokens=10, rate=5.0, seed=3)
    requests = workload.draw(100)
    assert requests == workload.draw(100)
    assert requests != Workload(num_requests=400, prompt_tokens=20, new_tokens=10, rate=5.0, seed=4).draw(100)
    assert requests[-1].arrives_at == pytest.approx(80, rel=0.2)
    assert [request.arrives_at for request in requests] == sorted(request.arrives_at for request in requests)
    lengths = sorted(len(request.prompt) for request in requests)
    assert lengths[200] == pytest.approx(20, abs=3)
    assert lengths[-1] <= 80


@pytest.mark.parametrize("options", [{}, {"rate": 50.0}, {"max_guesses": 4}])
def test_a_workload_is_served_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    folder = write_checkpoint(tmp_path / "tiny", dtype=torch.bfloat16)
    output = tmp_path / "figures.json"
    common = {"num_requests": 6, "prompt_tokens": 8, "new_tokens": 4, "device": "cpu", "output": str(output)}
    (serving if "rate" in options else throughput)(str(folder), **common, **options)
    figures = json.loads(output.read_text())
    drawn = Workload(num_requests=6, prompt_tokens=8, new_tokens=4).draw(320)
    if "rate" not in options:
        assert figures["load"]["new_tokens"] == sum(request.new_tokens for request in drawn)
        assert figures["load"]["prompt_tokens"] == sum(len(request.prompt) for request in drawn)
    assert figures["load"]["requests"] == 6
    assert figures["load"]["time_to_first_token_s"]["p99"] >= figures["load"]["time_to_first_token_s"]["p50"] > 0
    assert 0 < figures["bookkeeping_ms_per_step_of_64"] < 50
    assert ("50 arrivals per second" if "rate" in options else "all at once") in capsys.readouterr().out


@pytest.mark.skipif(find_spec("fastapi") is None, reason="the server's libraries are not installed")
def test_a_server_is_compared_with_its_engine_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "figures.json"
    http(streams=3, prompt_words=5, new_tokens=4, rounds=2, firsts=2, dtype="float32", output=str(output))
    report = json.loads(output.read_text())
    figures = report["http"]
    assert report["conditions"]["streams"] == 3
    assert figures["overhead"] == pytest.approx(median(figures["overheads"]))
    assert len(figures["overheads"]) == 2
    assert figures["server_tokens_per_s"] > 0 < figures["engine_tokens_per_s"]
    assert 0 <= figures["loop_cpu_us_per_token"] <= figures["server_cpu_us_per_token"] + 1e4
    assert figures["server_first_token_ms"] > 0 < figures["engine_first_token_ms"]
    assert "over HTTP" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("fastapi") is None, reason="the server's libraries are not installed")
def test_a_running_server_is_measured_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mistral_local.cli.server_process import serving_process

    how: dict[str, Any] = {"streams": 2, "prompt_words": 5, "new_tokens": 4, "rounds": 1, "firsts": 1}
    with serving_process(demo_checkpoint(), ["--max_context=256"]) as (url, key, _):
        with pytest.raises(MistralLocalError, match="401"):
            http(url=url, **how)
        with pytest.raises(MistralLocalError, match="nobody answers at"):
            http(url="http://127.0.0.1:1", **how)
        monkeypatch.setenv("MISTRAL_LOCAL_API_KEY", key)
        http(url=f"{url}/v1", output=str(tmp_path / "figures.json"), **how)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["conditions"]["url"] == url
    assert figures["http"]["tokens_per_s"] > 0
    assert url in capsys.readouterr().out


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(MistralLocalError, match=r"the server does not start: .*expected params\.json"):
        http(str(tmp_path), rounds=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "http://127.0.0.1:1", "shape": "350m"}, "--url: the server that runs there"),
        ({"url": "nonsense"}, "--url: expected an address"),
        ({"new_tokens": 1}, "--new_tokens must be at least 2"),
    ],
)
def test_flags_of_http_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        http(**options)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--rate: expected more than 0, got 0"):
        serving(rate=0.0)
