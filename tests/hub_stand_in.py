"""A Hugging Face Hub on this machine: what huggingface_hub asks for to create, fill, list and download a model repository."""

import base64
import hashlib
import http.server
import json
import threading
from urllib.parse import unquote, urlsplit


class HubStandIn:
    """
    `with HubStandIn() as hub:` serves at `hub.url`; `hub.repos` maps a repository to its files, path to bytes.

    Give a process `hub.environment(cache)` and it takes this for the Hub. Every file is committed inline ("regular"), so
    there is no LFS and no Xet.
    """

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def environment(self, cache):
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
            "HF_TOKEN": "hf_stand_in",
            "HF_HOME": str(cache),
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
        }

    def commit_of(self, repo):
        """The commit's name is a digest of the files, as is fitting."""
        digest = hashlib.sha1()
        for path, content in sorted(self.repos[repo].items()):
            digest.update(path.encode() + b"\0" + content)
        return digest.hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.hub.requests.append(f"{self.command} {self.path}")
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._answer_api("/".join(parts[2:4]), parts[4:5])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._answer_file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._send(404, {"error": "not here"})

    do_HEAD = do_GET

    def do_POST(self):
        self.hub.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        repo = "/".join(parts[2:4])
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            self.hub.repos.setdefault(repo, {})
            self._send(200, {"url": f"{self.hub.url}/{repo}", "id": repo, "name": repo})
        elif parts == ["api", "validate-yaml"]:
            self._send(200, {"errors": [], "warnings": []})
        elif parts[4:5] == ["preupload"]:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._send(200, {"files": modes, "commitOid": self.hub.commit_of(repo)})
        elif parts[4:5] == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = self.hub.commit_of(repo)
            url = f"{self.hub.url}/{repo}/commit/{commit}"
            self._send(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        else:
            self._send(404, {"error": "not here"})

    def _answer_api(self, repo, what):
        if repo not in self.hub.repos:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        files = self.hub.repos[repo]
        if what == ["tree"]:
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self._send(200, entries)
        siblings = [{"rfilename": path} for path in files]
        info = {"id": repo, "sha": self.hub.commit_of(repo), "siblings": siblings, "private": False, "tags": []}
        return self._send(200, info)

    def _answer_file(self, repo, path):
        content = self.hub.repos.get(repo, {}).get(path)
        if content is None:
            return self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": self.hub.commit_of(repo)}
        return self._send(200, content, headers)

    def _send(self, status, content, headers={}):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass
