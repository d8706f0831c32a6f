"""A stand-in for the Hugging Face Hub: the part of its HTTP API that huggingface_hub calls to share a model."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Commit:
    message: str
    files: Files

    @property
    def sha(self) -> str:
        content = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(self.files.items())]
        return hashlib.sha1(json.dumps([self.message, content]).encode()).hexdigest()


@dataclass
class Repository:
    private: bool = False
    commits: list[Commit] = field(default_factory=lambda: [Commit("initial commit", {".gitattributes": b""})])

    @property
    def files(self) -> Files:
        return self.commits[-1].files

    def find(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.sha == revision), None)


class HubServer:
    """
    The server, in a thread: ``with HubServer() as hub``.

    :ivar repositories: what is on it, by id
    :ivar requests: method and path of every request
    :ivar fail_commits: answer commits with an error 500
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.fail_commits = False
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo_id: str, files: Files) -> None:
        """Publish files without a client."""
        self.repositories.setdefault(repo_id, Repository()).commits.append(Commit("by hand", files))


class Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._dispatch()

    do_HEAD = do_POST = do_GET

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = path.strip("/").split("/")
        if path == "/api/whoami-v2":
            self._json({"type": "user", "name": "alice"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), parts[4:], body)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._json({"error": f"the stand-in does not know {path}"}, 404)

    def _create(self, wish: dict) -> None:
        repo_id = f"{wish.get('organization') or 'alice'}/{wish['name']}"
        answer = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id}
        if repo_id in self.hub.repositories:
            self._json({"error": "You already created this model repo", **answer}, 409)
        else:
            private = wish.get("visibility") == "private" or wish.get("private") is True
            self.hub.repositories[repo_id] = Repository(private)
            self._json(answer)

    def _model(self, repo_id: str, rest: list[str], body: bytes) -> None:
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return
        what, revision = (rest[0], rest[1]) if rest else ("revision", "main")
        commit = repository.find(revision)
        if commit is None:
            self._json({"error": f"Invalid rev id: {revision}"}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif what == "revision":
            siblings = [{"rfilename": name} for name in commit.files]
            self._json({"id": repo_id, "sha": commit.sha, "private": repository.private, "siblings": siblings})
        elif what == "tree":
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in commit.files.items()
                ]
            )
        elif what == "preupload":
            wanted = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in wanted]
            self._json({"files": modes})
        elif what == "commit":
            self._commit(repo_id, repository, [json.loads(line) for line in body.splitlines()])

    def _commit(self, repo_id: str, repository: Repository, lines: list[dict]) -> None:
        if self.hub.fail_commits:
            self._json({"error": "Internal Server Error"}, 500)
            return
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.commits[-1].sha):
            self._json({"error": "A commit has happened since"}, 412)
            return
        files = dict(repository.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        repository.commits.append(Commit(header["summary"], files))
        sha = repository.commits[-1].sha
        self._json({"commitOid": sha, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}"})

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        repository = self.hub.repositories.get(repo_id)
        commit = repository.find(revision) if repository else None
        if commit is None or name not in commit.files:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        data = commit.files[name]
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit.sha}
        self._answer(data, 200, headers, "application/octet-stream")

    def _json(self, answer: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(answer).encode(), status, headers or {}, "application/json")

    def _answer(self, data: bytes, status: int, headers: dict[str, str], kind: str) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
