"""Hub ids, against a server that speaks as much of the hub's protocol as huggingface_hub asks for."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from download_server import CHECKPOINT

COMMAND = [sys.executable, "-c", "from mistral_local.cli.entry import download; raise SystemExit(download())"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "mistralai/Tiny-Instruct"
OTHERS = {"README.md": b"# Tiny", "model-00001-of-00001.safetensors": bytes(1000), "tokenizer.json": b"{}"}


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """One repository; `damage` maps a file to the bytes that are sent instead, `cuts` to how many of them."""

    def __init__(self):
        self.files = CHECKPOINT | OTHERS
        self.licence = {"license": "apache-2.0"}
        self.damage, self.cuts, self.failures, self.requests = {}, {}, [], []
        self.token = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server looks up

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request):
        path = request.path.partition("?")[0]
        self.requests.append((request.command, path.rpartition("/")[2], request.headers.get("Range")))
        if self.failures:
            return self._send(request, self.failures.pop(0), b"")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._send(request, 401, b"", {"X-Error-Code": "GatedRepo"})
        if path.startswith(f"/api/models/{REPO}"):
            return self._send(request, 200, json.dumps(self._model()).encode(), {"Content-Type": "application/json"})
        prefix = f"/{REPO}/resolve/{COMMIT}/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            return self._send_file(request, path.removeprefix(prefix))
        return self._send(request, 404, b"", {"X-Error-Code": "RepoNotFound"})

    def _model(self):
        siblings = []
        for name, content in self.files.items():
            sibling = {"rfilename": name, "size": len(content), "blobId": git_oid(content)}
            if name.endswith(".safetensors"):
                sum_of = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"size": len(content), "sha256": sum_of, "pointerSize": 130}
            siblings.append(sibling)
        return {"id": REPO, "sha": COMMIT, "siblings": siblings, "cardData": self.licence, "tags": [], "private": False}

    def _send_file(self, request, name):
        content = self.files[name]
        is_lfs = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if is_lfs else git_oid(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        body, status = self.damage.get(name, content), 200
        if asked := request.headers.get("Range"):
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            body, status = body[first:], 206
        cut = self.cuts.pop(name, None) if request.command == "GET" else None
        return self._send(request, status, body, headers, cut)

    def _send(self, request, status, body, headers=None, cut=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        if cut is not None:
            request.close_connection = True
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[:cut])


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def run(hub, tmp_path):
    def run(*arguments, **changes):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": hub.base,
            "HF_HOME": str(tmp_path / "hf"),
            "MISTRAL_MODEL": str(tmp_path / "models"),
        }
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


def fill_cache(tmp_path, names, *, damage=()):
    """Put files into the cache of HF_HOME as huggingface_hub lays it out."""
    repo = tmp_path / "hf/hub" / f"models--{REPO.replace('/', '--')}"
    snapshot = repo / "snapshots" / COMMIT
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (repo / "refs/main").write_text(COMMIT)
    for name in names:
        content = CHECKPOINT[name]
        blob = hashlib.sha256(content).hexdigest() if name.endswith(".safetensors") else git_oid(content)
        (repo / "blobs" / blob).write_bytes(content[:-1] + b"?" if name in damage else content)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")


def assert_whole(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "SHA256SUMS"} == CHECKPOINT
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert done.returncode == 0
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def fetched(hub):
    return [name for method, name, _ in hub.requests if method == "GET" and name in hub.files]


def test_only_the_native_files_are_fetched_and_none_into_the_cache(hub, run, tmp_path):
    code, out, err = run(REPO)
    folder = tmp_path / "models/Tiny-Instruct"
    assert (code, out) == (0, f"mistral-chat {folder} --instruct\n"), err
    assert_whole(folder)
    assert sorted(fetched(hub)) == sorted(CHECKPOINT)
    assert not list((tmp_path / "hf").rglob("params.json"))
    hub.requests.clear()
    assert run(REPO)[0] == 0
    assert hub.requests == []
    assert run(REPO, "--verify_only")[0] == 0


def test_a_file_that_is_cut_is_gone_on_with(hub, run, tmp_path):
    hub.files["consolidated.safetensors"] = weights = bytes(range(256)) * 50_000
    hub.cuts["consolidated.safetensors"] = 12_000_000  # huggingface_hub keeps whole pieces of 10 MiB
    assert run(REPO)[0] == 0
    assert (tmp_path / "models/Tiny-Instruct/consolidated.safetensors").read_bytes() == weights
    asked = [part for method, name, part in hub.requests if method == "GET" and name == "consolidated.safetensors"]
    assert asked == [None, "bytes=10485760-"]


@pytest.mark.parametrize("name", ["consolidated.safetensors", "params.json"])
def test_wrong_bytes_exit_6_and_the_next_run_fetches_that_file_again(hub, run, tmp_path, name):
    hub.damage[name] = bytes(len(CHECKPOINT[name]))
    code, _, err = run(REPO)
    assert code == 6
    assert name in err
    assert not (tmp_path / "models/Tiny-Instruct").exists()
    hub.damage.clear()
    hub.requests.clear()
    assert run(REPO)[0] == 0
    assert fetched(hub) == [name]
    assert_whole(tmp_path / "models/Tiny-Instruct")


def test_what_the_cache_holds_is_taken_from_there(hub, run, tmp_path):
    fill_cache(tmp_path, ["consolidated.safetensors"])
    assert run(REPO)[0] == 0
    assert "consolidated.safetensors" not in fetched(hub)
    assert_whole(tmp_path / "models/Tiny-Instruct")


@pytest.mark.parametrize(("flags", "changes"), [(["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})])
def test_offline_the_cache_serves_or_it_ends_with_5(hub, run, tmp_path, flags, changes):
    code, _, err = run(REPO, *flags, **changes)
    assert code == 5
    assert "HF_HOME" in err
    fill_cache(tmp_path, CHECKPOINT)
    code, _, err = run(REPO, *flags, **changes)
    assert code == 0, err
    assert_whole(tmp_path / "models/Tiny-Instruct")
    assert hub.requests == []


def test_a_damaged_cache_is_not_believed(hub, run, tmp_path):
    fill_cache(tmp_path, CHECKPOINT, damage=["consolidated.safetensors"])
    assert run(REPO, "--offline")[0] == 6
    assert not (tmp_path / "models/Tiny-Instruct").exists()


def test_a_token_opens_a_gated_repository(hub, run, tmp_path):
    hub.token = "hf_secret"
    code, _, err = run(REPO)
    assert code == 5
    assert "HF_TOKEN" in err
    code, _, err = run(REPO, HF_TOKEN="hf_secret")
    assert code == 0, err
    assert "hf_secret" not in err


def test_an_unknown_repository_is_named(run):
    code, _, err = run("mistralai/Absent")
    assert code == 5
    assert "no such repository" in err
    assert err.count("\n") == 1


def test_passing_failures_are_retried_and_end(hub, run):
    hub.failures = [503]
    assert run(REPO)[0] == 0
    hub.failures = [503] * 100
    code, _, err = run(REPO, "other", "--retries", 1)
    assert code == 5
    assert "gave up after 1 retries" in err


def test_a_hub_that_is_not_there_ends_with_5(run):
    code, _, err = run(REPO, "--retries", 0, HF_ENDPOINT="http://127.0.0.1:1")
    assert code == 5
    assert "127.0.0.1:1" in err


def test_a_repository_in_another_format_is_refused_before_anything_is_fetched(hub, run, tmp_path):
    del hub.files["params.json"]
    code, _, err = run(REPO)
    assert code == 3
    assert "no params.json" in err
    assert fetched(hub) == []


def test_a_restricted_licence_must_be_accepted(hub, run):
    hub.licence = {"license": "other", "license_name": "mrl"}
    code, _, err = run(REPO)
    assert code == 2
    assert "Research License" in err
    assert run(REPO, "--accept_license")[0] == 0


def test_a_dry_run_tells_the_size_of_the_native_files(hub, run):
    code, out, err = run(REPO, "--dry_run", "--json")
    plan = json.loads(out)
    assert (code, err) == (0, "")
    assert plan["size"] == sum(map(len, CHECKPOINT.values()))
    assert plan["licence"] == "apache-2.0"
    assert fetched(hub) == []


def test_progress_is_told_as_events(run):
    events = [json.loads(line) for line in run(REPO, "--json")[1].splitlines()]
    done = [(event["done"], event["total"]) for event in events if event["event"] == "download"]
    size = len(CHECKPOINT["consolidated.safetensors"])
    assert (size, size) in done


def test_without_huggingface_hub_the_line_to_install_it_is_told(run, tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "huggingface_hub.py").write_text("raise ImportError")
    path = f"{tmp_path / 'without'}:{os.environ.get('PYTHONPATH', '')}"
    code, _, err = run(REPO, PYTHONPATH=path)
    assert code == 2
    assert "pip install 'mistral_local[hub]'" in err
