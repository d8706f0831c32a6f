"""A stand-in for the Hugging Face Hub: the part of its HTTP API that huggingface_hub calls to share a model."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]  # name -> content


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@dataclass
class Commit:
    message: str
    files: Files

    @property
    def sha(self) -> str:
        return sha1(repr((self.message, sorted(self.files.items()))).encode())


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
    """The server, in a thread: ``with HubServer() as hub``."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}  # by id
        self.requests: list[str] = []  # method and path
        self.fail_commits = False  # answer commits with an error 500
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
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match path.strip("/").split("/"):
            case ["api", "whoami-v2"]:
                self._json({"type": "user", "name": "alice"})
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                wish = json.loads(body)
                repo_id = f"{wish.get('organization') or 'alice'}/{wish['name']}"
                private = wish.get("visibility") == "private" or wish.get("private") is True
                self.hub.repositories[repo_id] = Repository(private)
                self._json({"url": f"{self.hub.url}/{repo_id}", "name": repo_id})
            case ["api", "models", owner, name, *what]:
                self._model(f"{owner}/{name}", what or ["revision", "main"], body)
            case [owner, name, "resolve", revision, *file]:
                self._resolve(f"{owner}/{name}", revision, "/".join(file))
            case _:
                self._json({"error": f"the stand-in does not know {path}"}, 404)

    do_HEAD = do_POST = do_GET

    def _model(self, repo_id: str, what: list[str], body: bytes) -> None:
        repository = self.hub.repositories.get(repo_id)
        commit = repository.find(what[1]) if repository else None
        if repository is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif commit is None:
            self._json({"error": f"Invalid rev id: {what[1]}"}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif what[0] == "revision":
            siblings = [{"rfilename": name} for name in commit.files]
            self._json({"id": repo_id, "sha": commit.sha, "private": repository.private, "siblings": siblings})
        elif what[0] == "tree":
            files = commit.files.items()
            self._json([{"type": "file", "path": name, "size": len(data), "oid": sha1(data)} for name, data in files])
        elif what[0] == "preupload":
            wanted = [file["path"] for file in json.loads(body)["files"]]
            self._json({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in wanted]})
        elif what[0] == "commit":
            self._commit(repo_id, repository, [json.loads(line) for line in body.splitlines()])

    def _commit(self, repo_id: str, repository: Repository, lines: list[dict]) -> None:
        header = lines[0]["value"]
        if self.hub.fail_commits:
            self._json({"error": "Internal Server Error"}, 500)
        elif header.get("parentCommit") not in (None, repository.commits[-1].sha):
            self._json({"error": "A commit has happened since"}, 412)
        else:
            changed = {line["value"]["path"]: line["value"].get("content") for line in lines[1:]}  # None if deleted
            files = {name: data for name, data in repository.files.items() if name not in changed}
            files |= {name: base64.b64decode(content) for name, content in changed.items() if content is not None}
            repository.commits.append(Commit(header["summary"], files))
            sha = repository.commits[-1].sha
            self._json({"commitOid": sha, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}"})

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        repository = self.hub.repositories.get(repo_id)
        commit = repository.find(revision) if repository else None
        if commit is None or name not in commit.files:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            data = commit.files[name]
            self._answer(data, 200, {"ETag": f'"{sha1(data)}"', "X-Repo-Commit": commit.sha})

    def _json(self, answer: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(answer).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
