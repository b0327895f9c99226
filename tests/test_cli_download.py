"""mistral-download as a user runs it: a process against a local server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from download_server import CHECKPOINT, make_tar, md5, running_server, sha256
from processes import running_process

from mistral_local.cli.download_progress import JsonProgress, Meter, QuietProgress, make_progress, meter_line
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.hub.table import published_archives

TAR = make_tar()
COMMAND = [sys.executable, "-c", "from mistral_local.cli.entry import download; raise SystemExit(download())"]
MAMBA = published_archives()["Codestral-Mamba-7B-v0.1"]


@pytest.fixture
def server():
    with running_server() as server:
        yield server


@pytest.fixture
def environment(server, tmp_path):
    keep = {name: value for name, value in os.environ.items() if name not in ("MISTRAL_MODEL", "MISTRAL_DOWNLOAD_BASE")}
    return keep | {"MISTRAL_MODEL": str(tmp_path / "models"), "MISTRAL_DOWNLOAD_BASE": server.base + "/"}


@pytest.fixture
def run(environment):
    """Return a function that runs the command: (exit code, stdout, stderr)."""

    def run(*arguments, **changes):
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=environment | changes,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_an_address_becomes_a_folder_and_the_next_command(server, run, tmp_path):
    server.put("/tiny-instruct.tar.gz", make_tar(mode="w:gz"))
    code, out, err = run(f"{server.base}/tiny-instruct.tar.gz")
    folder = tmp_path / "models" / "tiny-instruct"
    assert code == 0
    assert out == f"mistral-chat {folder} --instruct\n"
    assert "no checksum is known" in err
    assert (folder / "params.json").read_bytes() == CHECKPOINT["params.json"]
    code, out, err = run(f"{server.base}/tiny-instruct.tar.gz")
    assert (code, out) == (0, f"mistral-chat {folder} --instruct\n")
    assert "was here already" in err


def test_the_sums_of_an_address_can_be_given(server, run, tmp_path):
    server.put("/tiny.tar", TAR)
    code, _, err = run(f"{server.base}/tiny.tar", "--sha256", "0" * 64)
    assert code == 6
    assert err.startswith("download")
    assert "Error: " in err
    assert list((tmp_path / "models").iterdir()) == []
    code, out, err = run(
        f"{server.base}/tiny.tar", tmp_path / "a b", "--md5", md5(TAR).upper(), "--sha256", sha256(TAR)
    )
    assert (code, out) == (0, f"mistral-demo '{tmp_path / 'a b'}'\n")
    assert f"md5 {md5(TAR)}, sha256 {sha256(TAR)}" in err


def test_a_name_is_fetched_below_the_base_and_held_to_its_published_sum(server, run, tmp_path):
    file = server.put("/mistral-7b-v0-3/mistral-7B-v0.3.tar", TAR)
    code, out, err = run("7b-v0.3")  # in any case
    assert (code, out) == (6, "")
    assert f"expected 0663b293810d7571dad25dae2f2a5806, found {md5(TAR)}" in err
    assert len(file.requests) == 1
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(("status", "code"), [(403, 5), (404, 5), (500, 5), (429, 5)])
def test_network_failures_exit_5(server, run, status, code):
    server.put("/tiny.tar", TAR, status=status)
    assert run(f"{server.base}/tiny.tar", "--retries", 0)[0] == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--list shows the names"),
        (["7B-Instruct-v0.4"], "did you mean 7B-Instruct-v0.3?"),
        (["ftp://host/x.tar"], "http"),
        (["http://host/x.zip"], "tar archive"),
        (["http://host/x.tar", "--md5", "12"], "--md5: expected 32"),
        (["7B-v0.3", "--md5", "0" * 32], "for an address"),
        (["7B-v0.3", "--retries", "-1"], "--retries"),
        (["Codestral-22B-v0.1"], "--accept_license"),
        (["Large-Instruct-2407"], "MRL-0.1.md"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_with_exit_code_2(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert words in err


def test_without_a_folder_the_models_folder_is_needed(run):
    code, _, err = run("7B-v0.3", MISTRAL_MODEL="")
    assert code == 2
    assert "$MISTRAL_MODEL" in err


def test_a_restricted_licence_is_shown_when_accepted(server, run):
    server.put("/codestral-22b-v0-1/codestral-22B-v0.1.tar", TAR)
    code, _, err = run("Codestral-22B-v0.1", "--accept_license")
    assert code == 6  # it was fetched
    assert "Non-Production License" in err
    assert "a5661f2f6c6ee4d6820a2f68db934c5d or 1ea95d474a1d374b1d1b20a8e0159de3" in err


def test_a_model_that_cannot_run_yet_says_so(server, run):
    server.put("/" + MAMBA.path, TAR)
    assert "cannot run Codestral-Mamba-7B-v0.1 yet: Mamba" in run(MAMBA.name)[2]
    assert "not yet: Mamba" in next(line for line in run("--list")[1].splitlines() if line.startswith(MAMBA.name))


def test_the_list_names_everything(run):
    code, out, err = run("--list")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["name", "size", "memory", "licence", "tokenizer", "runs"]
    assert out.splitlines()[1].split() == ["7B-Instruct-v0.3", "14.5", "GB", "15.0", "GB", "Apache-2.0", "v3", "yes"]
    rows = [json.loads(line) for line in run("--list", "--json")[1].splitlines()]
    assert [row["name"] for row in rows] == list(published_archives())
    assert {row["archive_bytes"] for row in rows} == {None}  # nobody has published them


def test_a_dry_run_asks_and_fetches_nothing(server, run, tmp_path):
    file = server.put("/mistral-7b-v0-3/mistral-7B-v0.3.tar", TAR)
    code, out, err = run("7B-v0.3", "--dry_run", "--json")
    plan = json.loads(out)
    assert (code, err) == (0, "")
    assert plan["size"] == len(TAR)
    assert plan["needed"] == 2 * len(TAR)
    assert plan["sums"] == ["md5 0663b293810d7571dad25dae2f2a5806"]
    assert file.sent == 0
    assert not (tmp_path / "models").exists()
    code, out, _ = run("7B-v0.3", "--dry_run", "--offline")
    assert code == 0
    assert "size      unknown" in out
    assert len(file.requests) == 1


def test_a_dry_run_tells_what_has_come_and_whether_there_is_room(server, run):
    file = server.put("/tiny.tar", TAR, cuts=[200_000])
    assert run(f"{server.base}/tiny.tar", "--retries", 0)[0] == 5
    assert json.loads(run(f"{server.base}/tiny.tar", "--dry_run", "--json")[1])["here"] == 200_000
    file.claimed_length = 10**15
    code, out, err = run(f"{server.base}/tiny.tar", "--dry_run")
    assert code == 1
    assert "1000000.0 GB" in out
    assert "needs 2000000.0 GB" in err


def test_offline_fetches_nothing(server, run):
    file = server.put("/tiny.tar", TAR)
    code, _, err = run(f"{server.base}/tiny.tar", "--offline")
    assert code == 5
    assert "offline" in err
    assert file.requests == []


def test_verify_only_checks_what_is_there(server, run, tmp_path):
    server.put("/tiny.tar", TAR)
    assert run(f"{server.base}/tiny.tar", "--verify_only")[0] == 3
    run(f"{server.base}/tiny.tar")
    code, out, err = run(f"{server.base}/tiny.tar", "--verify_only")
    assert (code, out) == (0, "")
    assert "3 files are as they came" in err
    with (tmp_path / "models/tiny/consolidated.safetensors").open("r+b") as file:
        file.write(b"x")
    code, _, err = run(f"{server.base}/tiny.tar", "--verify_only")
    assert code == 6
    assert "consolidated.safetensors changed" in err


def test_quiet_writes_errors_only(server, run):
    server.put("/tiny.tar", TAR, failures=[(503, "0")])
    assert run(f"{server.base}/tiny.tar", "--quiet") == (0, "", "")
    assert run(f"{server.base}/missing.tar", "--quiet")[2].startswith("Error: ")


def test_json_writes_events(server, run, tmp_path):
    server.put("/tiny.tar", TAR, failures=[(503, "0")])
    code, out, err = run(f"{server.base}/tiny.tar", "--json", "--md5", md5(TAR))
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert {event["event"] for event in events} == {"note", "download", "verify", "unpack", "ready"}
    last = next(event for event in reversed(events) if event["event"] == "download")
    assert (last["done"], last["total"]) == (len(TAR), len(TAR))
    folder = str(tmp_path / "models/tiny")
    assert events[-1] == {"event": "ready", "folder": folder, "next": f"mistral-demo {folder}"}


def test_the_terminal_shows_speed_and_time_left_and_ctrl_c_can_be_gone_on_from(server, run, environment, tmp_path):
    file = server.put("/tiny.tar", TAR, pieces=(20_000, 0.1))
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], f"{server.base}/tiny.tar"], env=environment | {"TERM": "xterm"}, timeout=20
    )
    child.expect(r"download \[#+ +\] \d+\.\d kB of \d+\.\d kB  \d+\.\d kB/s  \d s left")
    child.sendintr()
    child.expect("the same command goes on")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert not (tmp_path / "models/tiny").exists()
    file.pieces = None
    assert run(f"{server.base}/tiny.tar")[0] == 0
    assert file.requests[1][1] is not None


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, 0.3, 0.6, 1.0])
def test_sigint_at_any_moment_leaves_a_whole_folder_or_none(server, run, environment, tmp_path, delay_s):
    server.put("/tiny.tar", TAR, pieces=(100_000, 0.05))
    command = [*COMMAND, f"{server.base}/tiny.tar"]
    with running_process(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "models").exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130, -2)
    folder = tmp_path / "models/tiny"
    assert not folder.exists() or run(f"{server.base}/tiny.tar", "--verify_only")[0] == 0
    assert run(f"{server.base}/tiny.tar")[0] == 0
    assert run(f"{server.base}/tiny.tar", "--verify_only")[0] == 0
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_downloaded_checkpoint_runs(server, run, tmp_path):
    server.put("/demo.tar", make_tar({path.name: path.read_bytes() for path in demo_checkpoint().iterdir()}))
    code, out, _ = run(f"{server.base}/demo.tar")
    assert (code, out) == (0, f"mistral-demo {tmp_path / 'models/demo'}\n")
    entry = "from mistral_local.cli.entry import demo; raise SystemExit(demo())"
    done = subprocess.run(
        [sys.executable, "-c", entry, tmp_path / "models/demo", "--max_tokens", "3"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("This is a test")


def test_the_meter_counts_only_what_comes_now():
    now_s = [0.0]
    meter = Meter(5_000_000, 10_000_000, lambda: now_s[0])
    assert meter.eta_s is None
    for _ in range(4):
        now_s[0] += 0.5
        meter.advance(500_000)
    assert meter.bytes_per_s == 1_000_000
    assert meter.eta_s == 3.0
    assert meter_line("download", meter) == "download [################        ] 7.0 MB of 10.0 MB  1.0 MB/s  3 s left"
    now_s[0] += 100  # a stall is forgotten after the window
    for _ in range(100):
        now_s[0] += 0.2
        meter.advance(20_000)
    assert 95_000 < meter.bytes_per_s < 105_000
    assert meter_line("unpack", Meter(3000, None, lambda: 0.0)) == "unpack  3.0 kB"


def test_the_mode_chooses_the_progress():
    class Pipe:
        err_is_terminal = False

        def raw_out(self, text):
            pass

    assert isinstance(make_progress(Pipe(), quiet=True, as_json=False), QuietProgress)
    assert isinstance(make_progress(Pipe(), quiet=True, as_json=True), JsonProgress)


def test_the_help_imports_no_torch():
    code = (
        "import sys, mistral_local.cli.download; print([m for m in ('torch', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_script_is_declared():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert 'mistral-download = "mistral_local.cli.entry:download"' in text
    assert "hub/models.tsv" in text
