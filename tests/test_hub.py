"""Upload and download: against a hub on this machine, an HTTP server that stores what it is sent."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import torch

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures
from mag2.baselines import GDLT
from tests.models import MODELS, features

TOKEN = "hf_of_this_test"


class Hub(ThreadingHTTPServer):
    """The part of the Hugging Face Hub that models need: repositories, commits of files, and files by revision."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.repositories: dict[str, dict] = {}
        self.calls: list[tuple[str, str, str | None]] = []  # method, path, authorization

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str, revision: str, files: dict[str, bytes], message: str) -> str:
        branches = self.repositories[name]["branches"]
        number = hashlib.sha1(f"{name}{len(self.calls)}".encode()).hexdigest()
        kept = {**branches.get(revision, {"files": {}})["files"], **files}
        branches[revision] = branches[number] = {"number": number, "files": kept, "message": message}
        return number


class _Requests(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say(self, **answer: object) -> None:
        self.answer(200, json.dumps(answer).encode(), Content_Type="application/json")

    def noted(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.server.calls.append((self.command, path, self.headers.get("Authorization")))
        return path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name, _, rest = self.noted().strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        found = self.server.repositories.get(name, {"branches": {}})["branches"].get(revision)
        if name not in self.server.repositories:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif found is None:
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif file not in found["files"]:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=found["number"])
        else:
            body = found["files"][file]
            etag = f'"{hashlib.sha1(body).hexdigest()}"'
            self.answer(200, body, ETag=etag, X_Repo_Commit=found["number"])

    def do_POST(self) -> None:
        path, body = self.noted(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":
            return self.say(errors=[], warnings=[])
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            status = 409 if name in self.server.repositories else 200
            self.server.repositories.setdefault(name, {"asked": asked, "branches": {}})
            return self.answer(status, json.dumps({"url": f"{self.server.url}/{name}"}).encode())
        # /api/models/OWNER/NAME/WHAT/REVISION
        owner, name, what, revision = path.removeprefix("/api/models/").split("/")
        if what == "preupload":
            files = json.loads(body)["files"]
            return self.say(files=[{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files])
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        message = next(line["value"]["summary"] for line in lines if line["key"] == "header")
        number = self.server.commit(f"{owner}/{name}", revision, files, message)
        return self.say(commitUrl=f"{self.server.url}/{owner}/{name}/commit/{number}", commitOid=number)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    huggingface_hub.close_session()  # a client that was made before knows no NO_PROXY
    yield server
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def gdlt() -> GDLT:
    return MODELS["GDLT"].build().eval()


def test_what_was_pushed_comes_back(hub):
    model = gdlt()
    url = model.push_to_hub("aqa/gdlt", token=TOKEN, commit_message="The first one")
    (stored,) = {branch["number"]: branch for branch in hub.repositories["aqa/gdlt"]["branches"].values()}.values()
    assert url == f"{hub.url}/aqa/gdlt/commit/{stored['number']}"
    assert set(stored["files"]) == {"config.json", "model.safetensors", "README.md"}
    assert stored["message"] == "The first one"
    assert b"library_name: mag2" in stored["files"]["README.md"]
    again = GDLT.from_pretrained("aqa/gdlt")
    assert not again.training
    assert again.config == model.config
    assert torch.equal(again(*features())["score"], model(*features())["score"])


@pytest.mark.parametrize("name", ["MLAVL", "PAMFN", "SGN"])
def test_a_folder_is_pushed_as_it_is_saved(hub, tmp_path, name):
    model = MODELS[name].build().eval()
    url = model.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="aqa/model", token=TOKEN)
    stored = hub.repositories["aqa/model"]["branches"]["main"]
    assert url.endswith(stored["number"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == stored["files"]
    again = type(model).from_pretrained("aqa/model")
    assert torch.equal(again(*features())["score"], model(*features())["score"])


def test_the_parts_of_a_model_are_pushed_like_a_model(hub):
    guide = ActionGraphGuidance(8, TextFeatures.for_sport("rhythmic_gymnastics").visual).eval()
    guide.push_to_hub("aqa/guide", token=TOKEN)
    clips = torch.randn(2, 5, 8)
    assert torch.equal(ActionGraphGuidance.from_pretrained("aqa/guide")(clips), guide(clips))
    with pytest.raises(ValueError, match=r"aqa/guide holds a 'action_graph_guidance'; MLAVL.from_pretrained reads"):
        MLAVL.from_pretrained("aqa/guide")


def test_a_revision_is_the_one_that_was_named(hub):
    first, second = gdlt(), gdlt()
    torch.nn.init.zeros_(second.regressor.weight)
    number = first.push_to_hub("aqa/gdlt", token=TOKEN).rpartition("/")[2]
    second.push_to_hub("aqa/gdlt", token=TOKEN)
    by_number, latest = GDLT.from_pretrained("aqa/gdlt", revision=number), GDLT.from_pretrained("aqa/gdlt")
    assert torch.equal(by_number.regressor.weight, first.regressor.weight)
    assert torch.equal(latest.regressor.weight, second.regressor.weight)
    first.push_to_hub("aqa/gdlt", token=TOKEN, revision="tuned")
    assert torch.equal(GDLT.from_pretrained("aqa/gdlt", revision="tuned").regressor.weight, first.regressor.weight)


def test_the_token_and_the_privacy_reach_the_hub(hub):
    gdlt().push_to_hub("aqa/mine", token=TOKEN, private=True)
    asked = hub.repositories["aqa/mine"]["asked"]
    assert asked.get("private", asked.get("visibility") == "private")  # by release of the client
    assert {authorization for _, _, authorization in hub.calls} == {f"Bearer {TOKEN}"}
    hub.calls.clear()
    GDLT.from_pretrained("aqa/mine", token=TOKEN)
    assert {authorization for _, _, authorization in hub.calls} == {f"Bearer {TOKEN}"}


def test_arguments_may_differ_and_what_was_downloaded_is_not_downloaded_again(hub, tmp_path):
    gdlt().push_to_hub("aqa/gdlt", token=TOKEN)
    GDLT.from_pretrained("aqa/gdlt", cache_dir=tmp_path / "own")
    hub.calls.clear()
    again = GDLT.from_pretrained("aqa/gdlt", cache_dir=tmp_path / "own", dropout=0.5)
    assert again.config["dropout"] == 0.5
    assert "GET" not in {method for method, _, _ in hub.calls}
    hub.calls.clear()
    GDLT.from_pretrained("aqa/gdlt", cache_dir=tmp_path / "own", local_files_only=True)
    assert hub.calls == []
    GDLT.from_pretrained("aqa/gdlt", cache_dir=tmp_path / "own", force_download=True)
    assert {path.rpartition("/")[2] for method, path, _ in hub.calls if method == "GET"} == {
        "config.json",
        "model.safetensors",
    }


def test_a_repository_that_is_not_there_is_an_error_of_the_hub(hub):
    from huggingface_hub.errors import RepositoryNotFoundError

    with pytest.raises(RepositoryNotFoundError, match="aqa/nowhere"):
        GDLT.from_pretrained("aqa/nowhere")


def test_weights_that_were_damaged_on_the_way_are_refused(hub):
    gdlt().push_to_hub("aqa/gdlt", token=TOKEN)
    files = hub.repositories["aqa/gdlt"]["branches"]["main"]["files"]
    damaged = bytearray(files["model.safetensors"])
    damaged[-1] ^= 1
    files["model.safetensors"] = bytes(damaged)
    with pytest.raises(ValueError, match="is not of the same save as the JSON beside it"):
        GDLT.from_pretrained("aqa/gdlt")
