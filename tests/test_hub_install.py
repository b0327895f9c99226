"""Archives from a server with bad manners: a whole, checked folder or a named error, and nothing in between."""

import multiprocessing
import os
import subprocess
import sys
import tarfile
import threading
from email.utils import formatdate
from time import time

import pytest
from download_server import CHECKPOINT, make_tar, md5, member, running_server, sha256

from mistral_local.errors import (
    ArchiveError,
    CheckpointError,
    ChecksumError,
    DiskSpaceError,
    DownloadBusyError,
    DownloadError,
    UsageError,
)
from mistral_local.hub import http
from mistral_local.hub.fetch import Patience, fetch
from mistral_local.hub.install import Archive, install
from mistral_local.hub.manifest import FILE_NAME, verify_folder, write_manifest
from mistral_local.hub.staging import Staging

TAR = make_tar()


class Recorder:
    """A Progress that remembers."""

    def __init__(self):
        self.phases, self.notes, self.done = [], [], 0

    def begin(self, phase, done, total):
        self.phases.append((phase, done, total))

    def advance(self, num_bytes):
        self.done += num_bytes

    def end(self):
        pass

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def server():
    with running_server() as server:
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def get(server, tmp_path, waits):
    """Install /m.tar of the server as tmp_path/m; returns the Recorder."""

    def get(*, content=TAR, archive=None, retries=3, offline=False, timeout_s=5.0):
        recorder = Recorder()
        archive = archive or Archive(f"{server.base}/m.tar", md5=(md5(content),))
        patience = Patience(retries=retries, timeout_s=timeout_s, sleep=waits.append)
        install(archive, tmp_path / "m", patience, recorder, offline=offline)
        return recorder

    return get


def assert_whole(folder, files=CHECKPOINT):
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != FILE_NAME} == files
    assert verify_folder(folder, Recorder()) == len(files)
    assert os.listdir(folder.parent) == [folder.name]  # nothing left behind


def assert_nothing(folder):
    assert not folder.exists()


def test_an_archive_becomes_a_checked_folder(server, get, tmp_path):
    file = server.put("/m.tar", TAR)
    recorder = get()
    assert_whole(tmp_path / "m")
    assert file.requests == [("GET", None)]
    assert [phase for phase, *_ in recorder.phases] == ["download", "verify", "unpack"]
    assert recorder.phases[0] == ("download", 0, len(TAR))
    assert recorder.notes == [f"md5 {md5(TAR)}"]
    assert (tmp_path / "m" / "params.json").stat().st_mode & 0o7111 == 0  # neither setuid nor executable


def test_the_manifest_is_one_that_sha256sum_reads(server, get, tmp_path):
    server.put("/m.tar", TAR)
    get()
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", FILE_NAME], cwd=tmp_path / "m", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == len(CHECKPOINT)


def test_a_connection_that_is_cut_goes_on_where_it_stopped(server, get, tmp_path, waits):
    file = server.put("/m.tar", TAR, cuts=[100_000, 0, 200_000])
    recorder = get()
    assert_whole(tmp_path / "m")
    ranges = [asked for _, asked in file.requests]
    assert ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=300000-"]
    assert file.sent == len(TAR)
    assert len(waits) == 3
    assert all("retry 1 of 3" in note or "retry 2 of 3" in note for note in recorder.notes[:-1])


def test_a_part_of_an_earlier_run_is_gone_on_with(server, get, tmp_path):
    file = server.put("/m.tar", TAR, cuts=[150_000])
    with pytest.raises(DownloadError, match="run it again to go on"):
        get(retries=0)
    assert_nothing(tmp_path / "m")
    recorder = get(retries=0)
    assert recorder.phases[0] == ("download", 150_000, len(TAR))
    assert file.sent == len(TAR)
    assert_whole(tmp_path / "m")


@pytest.mark.parametrize("etag", ['"one"', None])
def test_last_modified_serves_where_there_is_no_etag(server, get, tmp_path, etag):
    file = server.put("/m.tar", TAR, cuts=[150_000], etag=etag, last_modified="Wed, 22 May 2024 10:00:00 GMT")
    get()
    assert file.requests[1] == ("GET", "bytes=150000-")
    assert_whole(tmp_path / "m")


@pytest.mark.parametrize("etag", [None, 'W/"one"'])
def test_without_a_validator_a_part_is_not_trusted(server, get, tmp_path, etag):
    file = server.put("/m.tar", TAR, cuts=[150_000], etag=etag)
    get()
    assert [asked for _, asked in file.requests] == [None, None]
    assert_whole(tmp_path / "m")


def test_a_server_that_ignores_ranges_loses_nothing(server, get, tmp_path):
    server.put("/m.tar", TAR, has_ranges=False, cuts=[300_000, 100_000, 200_000])
    recorder = get()
    assert [done for phase, done, _ in recorder.phases if phase == "download"] == [0, 300_000, 300_000, 300_000]
    assert_whole(tmp_path / "m")


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("same_length", [True, False])
def test_a_file_that_changes_between_two_parts_is_begun_anew(server, get, tmp_path, has_ranges, same_length):
    weights = bytes(reversed(CHECKPOINT["consolidated.safetensors"])) * (1 if same_length else 2)
    newer = make_tar(CHECKPOINT | {"consolidated.safetensors": weights})
    file = server.put("/m.tar", TAR, cuts=[150_000], has_ranges=has_ranges)
    file.on_cut = lambda: file.change(newer, '"two"')
    get(content=newer)
    assert_whole(tmp_path / "m", CHECKPOINT | {"consolidated.safetensors": weights})


def test_a_range_of_another_file_is_refused_even_when_the_server_ignores_if_range(server, get, tmp_path, monkeypatch):
    newer = make_tar(CHECKPOINT | {"params.json": b'{"dim": 9}'})
    file = server.put("/m.tar", TAR, cuts=[150_000], last_modified='"one"')  # so that If-Range: "one" still holds
    file.on_cut = lambda: file.change(newer, '"two"')
    recorder = get(content=newer)
    assert any("changed on the server" in note for note in recorder.notes)
    assert_whole(tmp_path / "m", CHECKPOINT | {"params.json": b'{"dim": 9}'})


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_passing_failure_is_retried(server, get, tmp_path, waits, status):
    server.put("/m.tar", TAR, failures=[(status, None), (status, None)])
    get()
    assert_whole(tmp_path / "m")
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0


def test_retry_after_is_obeyed_in_seconds_and_as_a_date(server, get, waits):
    server.put("/m.tar", TAR, failures=[(429, "7"), (503, formatdate(time() + 30, usegmt=True)), (503, "86400")])
    get()
    assert waits[0] == 7.0
    assert 25 < waits[1] <= 30
    assert waits[2] == 60.0


def test_retries_end(server, get, tmp_path, waits):
    file = server.put("/m.tar", TAR, status=503)
    with pytest.raises(DownloadError, match=r"503.*gave up after 3 retries") as caught:
        get()
    assert caught.value.exit_code == 5
    assert len(file.requests) == 4
    assert len(waits) == 3
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "words"), [(401, "login"), (403, "refuses"), (404, "no such file"), (410, "removed")]
)
def test_a_refusal_is_final(server, get, tmp_path, waits, status, words):
    file = server.put("/m.tar", TAR, status=status)
    with pytest.raises(DownloadError, match=f"{words}.*{status}"):
        get()
    assert len(file.requests) == 1
    assert waits == []
    assert os.listdir(tmp_path) == []


def test_a_server_that_is_not_there_is_named(get, tmp_path):
    with pytest.raises(DownloadError, match=r"no connection to 127.0.0.1:1 .*refused"):
        get(archive=Archive("http://127.0.0.1:1/m.tar"))


def test_silence_counts_as_a_broken_connection(server, get, tmp_path):
    server.put("/m.tar", TAR, pieces=(1000, 2.0))
    with pytest.raises(DownloadError, match="timed out"):
        get(timeout_s=0.2, retries=0)
    assert_nothing(tmp_path / "m")


def test_a_slow_stream_is_waited_for(server, get, tmp_path):
    server.put("/m.tar", TAR, pieces=(len(TAR) // 8, 0.1))
    get(timeout_s=1.0, retries=0)
    assert_whole(tmp_path / "m")


def test_a_server_that_promises_more_than_it_sends_ends_in_an_error(server, get, tmp_path):
    server.put("/m.tar", TAR, claimed_length=len(TAR) + 1000)
    with pytest.raises(DownloadError):
        get()
    assert_nothing(tmp_path / "m")


def test_a_server_that_sends_less_than_the_archive_fails_the_checksum(server, get, tmp_path):
    server.put("/m.tar", TAR, claimed_length=len(TAR) - 1000)
    with pytest.raises(ChecksumError):
        get()
    assert os.listdir(tmp_path) == []


def test_a_server_that_gives_no_length_is_taken_at_its_word_and_checked(server, get, tmp_path):
    server.put("/m.tar", TAR, has_length=False)
    recorder = get()
    assert recorder.phases[0] == ("download", 0, None)
    assert_whole(tmp_path / "m")


def test_wrong_bytes_are_named_and_removed(server, get, tmp_path):
    bad = bytearray(TAR)
    bad[70_000] ^= 1
    file = server.put("/m.tar", bytes(bad))
    with pytest.raises(ChecksumError, match=f"expected {md5(TAR)}, found {md5(bytes(bad))}") as caught:
        get()
    assert caught.value.exit_code == 6
    assert os.listdir(tmp_path) == []
    file.change(TAR, '"two"')
    get()
    assert_whole(tmp_path / "m")


def test_any_of_several_publications_will_do_and_is_named(server, get, tmp_path):
    server.put("/m.tar", TAR)
    recorder = get(archive=Archive(f"{server.base}/m.tar", md5=("0" * 32, md5(TAR))))
    assert recorder.notes == [f"md5 {md5(TAR)} (publication 2 of 2)"]
    assert "publication 2 of 2" in (tmp_path / "m" / FILE_NAME).read_text()


def test_sha256_is_checked_beside_md5(server, get, tmp_path):
    server.put("/m.tar", TAR)
    with pytest.raises(ChecksumError, match="sha256"):
        get(archive=Archive(f"{server.base}/m.tar", md5=(md5(TAR),), sha256=("0" * 64,)))
    get(archive=Archive(f"{server.base}/m.tar", md5=(md5(TAR),), sha256=(sha256(TAR),)))
    assert_whole(tmp_path / "m")


def test_redirects_are_followed_with_the_range(server, get, tmp_path):
    server.put("/m.tar", b"", redirect=f"{server.base}/elsewhere.tar")
    file = server.put("/elsewhere.tar", TAR, cuts=[1000])
    get()
    assert file.requests == [("GET", None), ("GET", "bytes=1000-")]
    assert_whole(tmp_path / "m")


def test_redirects_to_files_and_in_circles_are_refused(server, get):
    server.put("/m.tar", b"", redirect="file:///etc/passwd")
    with pytest.raises(DownloadError):
        get()
    server.put("/m.tar", b"", redirect=f"{server.base}/m.tar")
    with pytest.raises(DownloadError):
        get()


def test_a_redirect_from_https_to_http_is_refused():
    request = http.urllib.request.Request("https://example.org/m.tar")
    with pytest.raises(DownloadError, match="not encrypted"):
        http._Redirects().redirect_request(request, None, 302, "Found", {}, "http://example.org/m.tar")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/m.tar", "http:///m.tar", "http://host/a b.tar", "m.tar"]
)
def test_addresses_of_other_kinds_are_refused(get, url):
    with pytest.raises(UsageError):
        get(archive=Archive(url))


@pytest.mark.parametrize("has_head", [True, False])
def test_asking_transfers_no_body(server, has_head):
    file = server.put("/m.tar", TAR, has_head=has_head, pieces=(1000, 0.05))
    assert http.ask(f"{server.base}/m.tar", timeout_s=5) == http.RemoteFile(len(TAR), '"one"')
    assert file.sent < len(TAR)


def test_a_whole_part_without_a_known_sum_is_asked_about(server, get, tmp_path, monkeypatch):
    file = server.put("/m.tar", TAR)
    archive = Archive(f"{server.base}/m.tar")
    staging = Staging(tmp_path / "m")
    staging.folder.mkdir()
    fetch(archive.url, staging.part, Patience(), Recorder())
    recorder = get(archive=archive)
    assert [method for method, _ in file.requests] == ["GET", "HEAD"]
    assert "no checksum is known" in recorder.notes[0]
    assert_whole(tmp_path / "m")


def test_offline_a_whole_part_is_unpacked_and_nothing_is_asked(server, get, tmp_path):
    file = server.put("/m.tar", TAR)
    staging = Staging(tmp_path / "m")
    staging.folder.mkdir()
    fetch(f"{server.base}/m.tar", staging.part, Patience(), Recorder())
    get(offline=True)
    assert len(file.requests) == 1
    assert_whole(tmp_path / "m")


def test_offline_nothing_is_fetched(server, get, tmp_path):
    file = server.put("/m.tar", TAR)
    with pytest.raises(DownloadError, match="offline"):
        get(offline=True)
    assert file.requests == []
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_not_fetched_again(server, get, tmp_path):
    file = server.put("/m.tar", TAR)
    get()
    (tmp_path / ".m.download").mkdir()  # as if the first had been ended just before its last step
    (tmp_path / ".m.download" / "archive.part").touch()
    get()
    assert len(file.requests) == 1
    assert_whole(tmp_path / "m")


def test_a_folder_of_somebody_else_is_not_touched(server, get, tmp_path):
    server.put("/m.tar", TAR)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").write_text("x")
    with pytest.raises(UsageError, match="was not downloaded"):
        get()
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "mine"]


def test_an_empty_folder_is_filled(server, get, tmp_path):
    server.put("/m.tar", TAR)
    (tmp_path / "m").mkdir()
    get()
    assert_whole(tmp_path / "m")


# Archives


@pytest.mark.parametrize("prefix", ["", "./", "mistral-7B/", "./mistral-7B/"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_checkpoint_may_lie_in_one_folder_and_be_compressed(server, get, tmp_path, prefix, mode):
    content = make_tar(prefix=prefix, mode=mode)
    server.put("/m.tar", content)
    get(content=content)
    assert_whole(tmp_path / "m")


HOSTILE = {
    "absolute": member("/tmp/evil", size=3),
    "parent": member("../evil", size=3),
    "parent inside": member("a/../../evil", size=3),
    "backslash": member("..\\evil", size=3),
    "newline": member("evil\nname", size=3),
    "symlink": member("link", tarfile.SYMTYPE, linkname="/etc/passwd"),
    "symlink inside": member("link", tarfile.SYMTYPE, linkname="params.json"),
    "hard link": member("link", tarfile.LNKTYPE, linkname="params.json"),
    "device": member("dev", tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": member("dev", tarfile.BLKTYPE, devmajor=8),
    "fifo": member("pipe", tarfile.FIFOTYPE),
    "second file": member("params.json", size=3),
    "second spelling": member("./params.json", size=3),
    "file as folder": member("params.json/evil", size=3),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("known", [True, False])
def test_a_hostile_member_leaves_nothing(server, get, tmp_path, name, known):
    content = make_tar(extra=(HOSTILE[name],))
    server.put("/m.tar", content)
    url = f"{server.base}/m.tar"
    with pytest.raises(ArchiveError):
        get(archive=Archive(url, md5=(md5(content),) if known else ()))
    assert_nothing(tmp_path / "m")
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(tmp_path.rglob("params.json"))


@pytest.mark.parametrize(
    "files",
    [
        {f"{top}/{name}": content for top in ("a", "b") for name, content in CHECKPOINT.items()},
        {name: content for name, content in CHECKPOINT.items() if name != "params.json"},
        {name: content for name, content in CHECKPOINT.items() if name != "consolidated.safetensors"},
        {name: content for name, content in CHECKPOINT.items() if name != "tokenizer.model.v3"},
        {},
    ],
    ids=["two folders", "no params", "no weights", "no tokenizer", "empty"],
)
def test_an_archive_that_is_not_one_checkpoint_is_refused(server, get, tmp_path, files):
    content = make_tar(files)
    server.put("/m.tar", content)
    with pytest.raises(ArchiveError, match="not one checkpoint"):
        get(content=content)
    assert_nothing(tmp_path / "m")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_an_archive_that_breaks_off_is_refused_without_a_checksum_too(server, get, tmp_path, mode, share):
    content = make_tar(CHECKPOINT | {"consolidated.safetensors": os.urandom(500_000)}, mode=mode)
    server.put("/m.tar", content[: int(len(content) * share)])
    with pytest.raises(ArchiveError):
        get(archive=Archive(f"{server.base}/m.tar"))
    assert_nothing(tmp_path / "m")


def test_a_damaged_header_is_not_taken_for_the_end(server, get, tmp_path):
    content = bytearray(make_tar(CHECKPOINT | {"extra.txt": b"x"}))
    position = content.rindex(b"extra.txt")
    content[position] ^= 1
    server.put("/m.tar", bytes(content))
    with pytest.raises(ArchiveError, match="damaged"):
        get(archive=Archive(f"{server.base}/m.tar"))
    assert_nothing(tmp_path / "m")


def test_what_is_no_archive_is_refused(server, get, tmp_path):
    server.put("/m.tar", b"<html>not found</html>")
    with pytest.raises(ArchiveError, match="no whole tar archive"):
        get(archive=Archive(f"{server.base}/m.tar"))
    assert os.listdir(tmp_path) == []


# Disk, lock, interruption


def test_space_is_checked_before_the_first_byte(server, get, tmp_path, monkeypatch):
    file = server.put("/m.tar", TAR, pieces=(1000, 0.01))
    monkeypatch.setattr("mistral_local.hub.space.free_bytes", lambda folder: 2 * len(TAR) - 1)
    with pytest.raises(DiskSpaceError, match=r"needs 1.0 MB, but .* has 1.0 MB free"):
        get()
    assert file.sent < len(TAR)
    monkeypatch.setattr("mistral_local.hub.space.free_bytes", lambda folder: 2 * len(TAR))
    get()
    assert_whole(tmp_path / "m")


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_keeps_what_has_come(server, small_disk, monkeypatch):
    big = make_tar(CHECKPOINT | {"consolidated.safetensors": os.urandom(1_200_000)})
    file = server.put("/m.tar", big)
    archive = Archive(f"{server.base}/m.tar", md5=(md5(big),))
    with pytest.raises(DiskSpaceError, match="needs"):
        install(archive, small_disk / "m", Patience(retries=0), Recorder())
    monkeypatch.setattr("mistral_local.hub.space.free_bytes", lambda folder: 10**9)  # others took the space meanwhile
    with pytest.raises(DiskSpaceError, match="full"):
        install(archive, small_disk / "m", Patience(retries=0), Recorder())
    kept = Staging(small_disk / "m").part.size
    assert kept > 500_000
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    install(archive, small_disk / "m", Patience(retries=0), Recorder())
    assert file.requests[-1] == ("GET", f"bytes={kept}-")
    assert verify_folder(small_disk / "m", Recorder()) == 3


def test_a_disk_that_fills_while_unpacking_leaves_no_folder(server, small_disk, monkeypatch):
    server.put("/m.tar", TAR)
    archive = Archive(f"{server.base}/m.tar", md5=(md5(TAR),))
    monkeypatch.setattr("mistral_local.hub.space.free_bytes", lambda folder: 10**9)
    (small_disk / "ballast").write_bytes(bytes(200_000))
    with pytest.raises(DiskSpaceError, match="full"):
        install(archive, small_disk / "m", Patience(retries=0), Recorder())
    assert_nothing(small_disk / "m")
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    install(archive, small_disk / "m", Patience(retries=0), Recorder())
    assert verify_folder(small_disk / "m", Recorder()) == 3


def test_a_second_writer_is_turned_away_and_the_first_finishes(server, get, tmp_path):
    server.put("/m.tar", TAR, pieces=(len(TAR) // 10, 0.1))
    first = threading.Thread(target=get)
    staging = Staging(tmp_path / "m")
    first.start()
    while not staging.part.size:
        assert first.is_alive()
    with pytest.raises(DownloadBusyError, match="another process"):
        get()
    first.join()
    assert_whole(tmp_path / "m")


def _install_in_a_process(url, folder, queue):
    try:
        queue.put(install(Archive(url, md5=(md5(TAR),)), folder, Patience(), Recorder()))
    except DownloadBusyError:
        queue.put("busy")


def test_many_writers_make_one_folder(server, tmp_path):
    file = server.put("/m.tar", TAR)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (f"{server.base}/m.tar", tmp_path / "m", queue)
    writers = [context.Process(target=_install_in_a_process, args=arguments) for _ in range(4)]
    for writer in writers:
        writer.start()
    results = [queue.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    assert results.count(True) == 1
    assert len(file.requests) == 1
    assert_whole(tmp_path / "m")


INTERRUPTED = """
import sys, os
from pathlib import Path
from mistral_local.hub.fetch import Patience
from mistral_local.hub.install import Archive, install
sys.path.insert(0, {tests!r})
from test_hub_install import Recorder
class Killer(Recorder):
    def advance(self, num_bytes):
        super().advance(num_bytes)
        if self.phases[-1][0] == {phase!r} and self.done > {after}: {how}
    def begin(self, phase, done, total):
        super().begin(phase, done, total); self.done = 0
install(Archive({url!r}, md5=({md5!r},)), Path({folder!r}), Patience(), Killer())
"""


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "os.kill(os.getpid(), 9)"], ids=["ctrl-c", "kill -9"])
@pytest.mark.parametrize(("phase", "after"), [("download", 0), ("download", 200_000), ("verify", 0), ("unpack", 5)])
def test_an_interruption_anywhere_leaves_what_the_next_run_goes_on_with(server, get, tmp_path, how, phase, after):
    file = server.put("/m.tar", TAR, pieces=(50_000, 0.01))
    script = INTERRUPTED.format(
        tests=os.path.dirname(__file__),
        phase=phase,
        after=after,
        how=how,
        url=f"{server.base}/m.tar",
        md5=md5(TAR),
        folder=str(tmp_path / "m"),
    )
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    assert done.returncode in (1, 130, -2, -9)
    assert_nothing(tmp_path / "m")
    get()
    assert_whole(tmp_path / "m")
    if phase == "download":
        assert file.requests[1][1] is not None  # gone on with, not begun anew
    else:
        assert len(file.requests) == 1


# The manifest


def test_a_changed_or_missing_file_is_named(server, get, tmp_path):
    server.put("/m.tar", TAR)
    get()
    (tmp_path / "m" / "params.json").write_bytes(b'{"dim": 7}')
    with pytest.raises(ChecksumError, match=r"params.json changed"):
        verify_folder(tmp_path / "m", Recorder())
    (tmp_path / "m" / "params.json").unlink()
    with pytest.raises(CheckpointError, match=r"lacks params.json"):
        verify_folder(tmp_path / "m", Recorder())


def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path):
    write_manifest(tmp_path, "x", {"../secret": "0" * 64})
    with pytest.raises(CheckpointError, match="sha256sum"):
        verify_folder(tmp_path, Recorder())
