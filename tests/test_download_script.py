"""scripts/download.sh, run against a local server: the same promises as mistral-download, kept by bash and curl."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from download_server import CHECKPOINT, make_tar, md5, running_server, sha256
from processes import running_process
from test_hub_install import HOSTILE

from mistral_local.demo.locate import demo_checkpoint

SCRIPT = Path(__file__).parent.parent / "scripts/download.sh"
TABLE = SCRIPT.parent.parent / "src/mistral_local/hub/models.tsv"
TAR = make_tar()
PYTHON = [sys.executable, "-c", "from mistral_local.cli.entry import download; raise SystemExit(download())"]

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("curl", "tar", "flock"))), reason="needs curl, tar and flock"
)


@pytest.fixture
def server():
    with running_server() as server:
        yield server


@pytest.fixture
def publish(server, tmp_path):
    """Serve an archive as the model Tiny, with its row in the table of a copy of the script."""

    def publish(content=TAR, *, md5s=None, sha256s="-", licence="Apache-2.0", runs="yes", **manners):
        table = tmp_path / "clone/src/mistral_local/hub/models.tsv"
        table.parent.mkdir(parents=True, exist_ok=True)
        row = ("Tiny", "tiny/tiny.tar", md5s or md5(content), sha256s, licence, "v3", "1000", "10", "instruct", runs)
        table.write_text("# name ...\n" + "\t".join(row) + "\n")
        (tmp_path / "clone/scripts").mkdir(exist_ok=True)
        shutil.copy(SCRIPT, tmp_path / "clone/scripts/download.sh")
        return server.put("/tiny/tiny.tar", content, **manners)

    return publish


@pytest.fixture
def environment(server, tmp_path):
    return os.environ | {"MISTRAL_MODEL": str(tmp_path / "models"), "MISTRAL_DOWNLOAD_BASE": server.base}


@pytest.fixture
def run(environment, tmp_path):
    def run(*arguments):
        done = subprocess.run(
            ["bash", tmp_path / "clone/scripts/download.sh", *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models/Tiny"


def assert_whole(folder, files=CHECKPOINT):
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "SHA256SUMS"} == files
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_shellcheck_is_content():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "it comes with the dev extra"
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_commands_list_the_same():
    bash = subprocess.run(["bash", SCRIPT, "--list"], capture_output=True, text=True)
    python = subprocess.run([*PYTHON, "--list"], capture_output=True, text=True)
    assert bash.stderr == python.stderr == ""
    assert bash.stdout == python.stdout


def test_a_name_becomes_a_checked_folder_and_the_next_command(publish, run, folder):
    publish(sha256s=sha256(TAR))
    code, out, err = run("tiny")
    assert (code, out) == (0, f"mistral-chat {folder} --instruct\n"), err
    assert f"md5 {md5(TAR)} sha256 {sha256(TAR)}" in err
    assert_whole(folder)
    assert (folder / "params.json").stat().st_mode & 0o7777 == 0o644
    assert run("Tiny")[0] == 0
    assert run("Tiny", "--verify_only")[0] == 0
    (folder / "params.json").write_text("{}")
    assert run("Tiny", "--verify-only")[0] == 6


def test_mistral_download_reads_the_manifest_of_the_script(publish, run, folder, server):
    publish()
    run("Tiny", folder)
    done = subprocess.run([*PYTHON, f"{server.base}/x.tar", folder, "--verify_only"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.endswith(f"{folder}: 3 files are as they came\n")


def test_cuts_are_gone_on_from(publish, run, folder):
    file = publish(cuts=[100_000, 200_000])
    code, _, err = run("Tiny")
    assert code == 0, err
    assert [asked for method, asked in file.requests if method == "GET"] == [None, "bytes=100000-", "bytes=300000-"]
    assert "retry 1 of 6 in 1 s" in err
    assert_whole(folder)


def test_a_part_of_the_script_is_gone_on_with_by_mistral_download_and_the_other_way(publish, run, folder, server):
    file = publish(cuts=[100_000, 200_000])
    assert run("Tiny", "--retries", 0)[0] == 5
    command = [*PYTHON, f"{server.base}/tiny/tiny.tar", folder, "--retries", "0"]
    assert subprocess.run(command, capture_output=True).returncode == 5
    assert run("Tiny")[0] == 0
    assert [asked for method, asked in file.requests if method == "GET"] == [None, "bytes=100000-", "bytes=300000-"]
    assert_whole(folder)


@pytest.mark.parametrize("manners", [{"has_ranges": False}, {"etag": None}, {"etag": 'W/"one"'}, {"has_head": False}])
def test_what_cannot_be_gone_on_with_is_begun_anew(publish, run, folder, manners):
    publish(cuts=[100_000], **manners)
    code, _, err = run("Tiny")
    assert code == 0, err
    assert_whole(folder)


def test_a_file_that_changes_between_two_parts_is_begun_anew(publish, run, folder):
    newer = make_tar(CHECKPOINT | {"params.json": b'{"dim": 9}'})
    file = publish(TAR, md5s=f"{md5(newer)},{'0' * 32}", cuts=[100_000])
    file.on_cut = lambda: file.change(newer, '"two"')
    code, _, err = run("Tiny")
    assert code == 0, err
    assert "publication 1 of 2" in err
    assert_whole(folder, CHECKPOINT | {"params.json": b'{"dim": 9}'})


def test_passing_failures_are_retried_and_end(publish, run, folder):
    file = publish(failures=[(503, None), (429, "0")])
    assert run("Tiny")[0] == 0
    assert_whole(folder)
    shutil.rmtree(folder)
    file.status = 500
    code, _, err = run("Tiny", "--retries", 1)
    assert code == 5
    assert "gave up after 1 retries" in err
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_final(publish, run, folder, status):
    publish(status=status)
    code, _, err = run("Tiny")
    assert code == 5
    assert f"HTTP {status}" in err
    assert list(folder.parent.iterdir()) == []


def test_a_server_that_promises_more_than_it_sends_ends_in_an_error(publish, run, folder):
    publish(claimed_length=len(TAR) + 1000)
    assert run("Tiny", "--retries", 1)[0] == 5
    assert not folder.exists()


def test_wrong_bytes_exit_6_and_are_removed(publish, run, folder):
    publish(md5s="0" * 32)
    code, out, err = run("Tiny")
    assert (code, out) == (6, "")
    assert f"expected {'0' * 32}, found {md5(TAR)}" in err
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_member_leaves_nothing(publish, run, folder, tmp_path, name):
    publish(make_tar(extra=(HOSTILE[name],)))
    code, _, err = run("Tiny")
    assert code == 3, err
    assert not folder.exists()
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("prefix", ["./", "tiny/", "./tiny/"])
def test_a_checkpoint_may_lie_in_one_folder(publish, run, folder, prefix):
    publish(make_tar(prefix=prefix))
    assert run("Tiny")[0] == 0
    assert_whole(folder)


def test_two_folders_are_refused(publish, run, folder):
    publish(make_tar({f"{top}/{name}": content for top in "ab" for name, content in CHECKPOINT.items()}))
    code, _, err = run("Tiny")
    assert code == 3
    assert "not one checkpoint" in err
    assert not folder.exists()


def test_space_is_checked_before_the_first_byte(publish, run, folder):
    file = publish(claimed_length=10**15)
    code, _, err = run("Tiny")
    assert code == 1
    assert "needs 2000000.0 GB" in err
    assert file.sent == 0


def test_a_dry_run_and_an_offline_run_fetch_nothing(publish, run, folder):
    file = publish()
    code, out, _ = run("Tiny", "--dry_run")
    assert code == 0
    assert f"checksum  md5 {md5(TAR)}" in out
    assert f"size      {len(TAR) / 1e3:.1f} kB" in out
    assert run("Tiny", "--offline")[0] == 5
    assert file.sent == 0
    assert run("Tiny", "--dry-run", "--offline")[1].count("unknown") == 2


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "models"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_named_and_what_has_come_is_gone_on_with(publish, run, folder, small_disk):
    file = publish(has_length=False)  # the room cannot be checked first
    code, _, err = run("Tiny")
    assert (code, err.count("\n")) == (1, 1)
    assert "full" in err
    assert not folder.exists()
    subprocess.run(["mount", "-o", "remount,size=700k", small_disk], check=True)
    code, _, err = run("Tiny")
    assert code == 1  # the archive fits, its content does not
    assert "full" in err
    assert not folder.exists()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    file.has_length = True
    assert run("Tiny")[0] == 0
    assert_whole(folder)


@pytest.mark.parametrize("licence", ["MNPL-0.1", "MRL-0.1"])
def test_a_restricted_licence_must_be_accepted(publish, run, folder, licence):
    publish(licence=licence)
    code, _, err = run("Tiny")
    assert code == 2
    assert f"{licence}.md" in err
    assert run("Tiny", "--accept_license")[0] == 0
    assert_whole(folder)


def test_a_model_that_cannot_run_yet_has_no_next_command(publish, run):
    publish(runs="not yet: Mamba")
    code, out, err = run("Tiny")
    assert (code, out) == (0, "")
    assert "cannot run Tiny yet: Mamba" in err


def test_mistakes_are_named(publish, run, folder):
    publish()
    for arguments in ([], ["Absent"], ["Tiny", "a", "b"], ["Tiny", "--fast"], ["Tiny", "--retries", "x"]):
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    assert run("Tiny")[0] == 2
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_second_writer_is_turned_away(publish, run, environment, folder, tmp_path, server):
    let_go = threading.Event()
    publish(held_back=(50_000, let_go))
    command = ["bash", tmp_path / "clone/scripts/download.sh", "Tiny"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running_process(command, env=environment, **quiet) as first:
        try:
            while not (folder.parent / ".Tiny.download/archive.part").exists():
                assert first.poll() is None
                time.sleep(0.01)
            code, _, err = run("Tiny")
            assert code == 1
            assert "another process" in err
            done = subprocess.run([*PYTHON, f"{server.base}/tiny/tiny.tar", folder], capture_output=True, text=True)
            assert "another process" in done.stderr
        finally:
            let_go.set()
        assert first.wait(30) == 0
    assert_whole(folder)


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3, 0.6, 0.9])
def test_ctrl_c_at_any_moment_leaves_a_whole_folder_or_none(publish, run, environment, folder, tmp_path, delay_s):
    file = publish(pieces=(100_000, 0.1))
    command = ["bash", tmp_path / "clone/scripts/download.sh", "Tiny"]
    how = {"env": environment, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with running_process(command, **how) as process:
        while not folder.parent.exists():
            time.sleep(0.01)
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to curl and bash alike
        assert process.wait(20) in (0, 130)
    assert not folder.exists() or run("Tiny", "--verify_only")[0] == 0
    file.pieces = None
    assert run("Tiny")[0] == 0
    assert_whole(folder)


def test_a_downloaded_checkpoint_runs(publish, run, folder):
    publish(make_tar({path.name: path.read_bytes() for path in demo_checkpoint().iterdir()}))
    assert run("Tiny", "--quiet") == (0, "", "")
    entry = "from mistral_local.cli.entry import demo; raise SystemExit(demo())"
    command = [sys.executable, "-c", entry, folder, "--max_tokens", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("This is a test")
