"""A push against a stand-in of the hub that runs here: what is sent, what stays, and what a refusal says."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nanoocr.cli import main
from nanoocr.errors import OutputError, UsageError
from nanoocr.files import write_folder
from nanoocr.finetune.push import plan_upload, push

hub = pytest.importorskip("huggingface_hub")
FILES = {
    "model.safetensors": b"weights",
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "MODEL_CARD.md": b"# card",
    "report.html": b"<html>secret lines</html>",
    "finetune.json": b"{}",
}


class Hub(BaseHTTPRequestHandler):
    """The four calls that an upload makes; what arrives is kept."""

    kept: dict

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.kept["paths"].append(self.path)
        if self.kept["refuse"]:
            return self.answer({"error": "no"}, 403)
        if self.path.endswith("/repos/create"):
            self.kept["repo"] = json.loads(body)
            return self.answer({"url": f"http://{self.headers['Host']}/me/mine"})
        if self.path.endswith("/validate-yaml"):
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(body)["files"]]
            return self.answer(
                {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
            )
        if "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [one["value"] for one in lines if one["key"] == "file"]
            self.kept["files"] = {one["path"]: base64.b64decode(one["content"]) for one in files}
            return self.answer(
                {"commitUrl": f"http://{self.headers['Host']}/me/mine/commit/1", "commitOid": "1" * 40}
            )
        return self.answer({}, 404)

    def do_GET(self):
        self.answer({"id": "me/mine", "sha": "1" * 40})

    def answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Silence."""


@pytest.fixture
def stand_in(monkeypatch):
    kept = {"paths": [], "refuse": False}
    server = HTTPServer(("127.0.0.1", 0), type("Here", (Hub,), {"kept": kept}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    made = hub.HfApi
    monkeypatch.setattr(hub, "HfApi", lambda: made(endpoint=address, token="hf_stand_in"))
    yield kept
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path):
    write_folder(tmp_path / "mine", FILES)
    return tmp_path / "mine"


def test_a_dry_run_sends_nothing(stand_in, model, capsys):
    assert main(["push", str(model), "me/mine"]) == 0
    said = capsys.readouterr()
    assert stand_in["paths"] == [] and "nothing was sent" in said.err
    assert "README.md" in said.out and "report.html" not in said.out


def test_the_model_and_its_card_arrive_and_the_report_stays(stand_in, model):
    assert main(["push", str(model), "me/mine", "--yes"]) == 0
    files = stand_in["files"]
    assert files["README.md"] == b"# card" and files["model.safetensors"] == b"weights"
    assert set(files) == {"README.md", "manifest.json", *FILES} - {"report.html", "MODEL_CARD.md"}
    assert "private" in (stand_in["repo"].get("visibility"), *stand_in["repo"])
    assert set(json.loads(files["manifest.json"])["files"]) == set(files) - {"README.md", "manifest.json"}


def test_a_report_goes_along_where_that_is_asked(stand_in, model):
    push(plan_upload(model, "me/mine", with_report=True))
    assert b"secret" in stand_in["files"]["report.html"]


def test_a_refusal_is_one_sentence(stand_in, model):
    stand_in["refuse"] = True
    with pytest.raises(OutputError, match="me/mine: the hub did not take it"):
        push(plan_upload(model, "me/mine"))


def test_wrong_names_and_folders_are_refused_before_anything_is_sent(model, tmp_path):
    for name in ("mine", "a/b/c", "../x", "me/"):
        with pytest.raises(UsageError, match="OWNER/NAME"):
            plan_upload(model, name)
    write_folder(tmp_path / "other", {"config.json": b"{}"})
    with pytest.raises(UsageError, match="no model folder"):
        plan_upload(tmp_path / "other", "me/mine")
