"""
A Hugging Face Hub on this machine: what huggingface_hub asks for to create, fill, list and download a repository.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit


KINDS = {"models": "", "datasets": "datasets/"}


class HubStandIn:
    """
    `with HubStandIn() as hub:` serves at `hub.url`; `hub.repos` maps a repository to its files, path to bytes. A data
    set's name there begins with "datasets/".

    Give a process `hub.environment(cache)` and it takes this for the Hub. Parquet goes through LFS, since `datasets`
    relies on it; every other file is committed inline ("regular"). There is no Xet.

    Everybody with a token is the user "me" and may write everywhere but in the namespace "others". Set `hub.breaks_at`
    to a part of a path, and requests for it find the connection cut.
    """

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.commits: list[str] = []  # repositories, in order of their commits
        self.breaks_at: str | None = None
        self.requests: list[str] = []
        self.large: dict[str, bytes] = {}  # LFS objects by their SHA-256

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
        if self.hub.breaks_at and self.hub.breaks_at in self.path:
            self.close_connection = True
        elif parts == ["api", "whoami-v2"]:
            known = self.headers.get("Authorization") == "Bearer hf_stand_in"
            self._send(*(200, {"name": "me"}) if known else (401, {"error": "Invalid token"}))
        elif parts[0] == "api" and parts[1] in KINDS:
            self._answer_api(KINDS[parts[1]] + "/".join(parts[2:4]), parts[4:5], "/".join(parts[6:]))
        elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            self._answer_file("/".join(parts[:3]), "/".join(parts[5:]))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._answer_file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._send(404, {"error": "not here"})

    do_HEAD = do_GET

    def do_POST(self):
        self.hub.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        repo = KINDS.get(parts[1], "") + "/".join(parts[2:4])
        if self.hub.breaks_at and self.hub.breaks_at in self.path:
            self.close_connection = True
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            if asked["organization"] == "others":
                return self._send(403, {"error": "You don't have the rights to create a model under this namespace"})
            name = f"{asked['organization'] or 'me'}/{asked['name']}"
            repo = ("datasets/" if asked.get("type") == "dataset" else "") + name
            if asked.get("visibility") == "private" and repo not in self.hub.repos:
                self.hub.private.add(repo)
            self.hub.repos.setdefault(repo, {})
            self._send(200, {"url": f"{self.hub.url}/{repo}", "id": name, "name": name})
        elif parts == ["api", "validate-yaml"]:
            self._send(200, {"errors": [], "warnings": []})
        elif parts[4:5] == ["preupload"]:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [
                {"path": path, "uploadMode": "lfs" if path.endswith(".parquet") else "regular", "shouldIgnore": False}
                for path in paths
            ]
            self._send(200, {"files": modes, "commitOid": self.hub.commit_of(repo)})
        elif parts[-1] == "batch":
            asked = json.loads(body)["objects"]
            objects = [each | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}} for each in asked]
            self._send(200, {"transfer": "basic", "objects": objects})
        elif parts[4:5] == ["paths-info"]:
            asked = parse_qs(body)["paths"] if "paths=" in body else json.loads(body)["paths"]
            self._send(200, self._entries(repo, asked))
        elif parts[4:5] == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "lfsFile":
                    self.hub.repos[repo][line["value"]["path"]] = self.hub.large[line["value"]["oid"]]
                elif line["key"] == "deletedFile":
                    del self.hub.repos[repo][line["value"]["path"]]
            self.hub.commits.append(repo)
            commit = self.hub.commit_of(repo)
            url = f"{self.hub.url}/{repo}/commit/{commit}"
            self._send(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        else:
            self._send(404, {"error": "not here"})

    def do_PUT(self):
        self.hub.large[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200, {})

    def _entries(self, repo, paths):
        files = self.hub.repos[repo]
        sized = {path: (len(files[path]), hashlib.sha1(files[path]).hexdigest()) for path in paths if path in files}
        return [{"type": "file", "path": path, "size": size, "oid": oid} for path, (size, oid) in sized.items()]

    def _answer_api(self, repo, what, folder):
        if repo not in self.hub.repos:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        files = self.hub.repos[repo]
        if what == ["tree"]:
            below = [path for path in files if path.startswith(f"{folder}/" if folder else "")]
            if folder and not below:
                return self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            folders = {str(parent) for path in below for parent in PurePosixPath(path).parents} - {".", folder}
            entries = [{"type": "directory", "path": path, "size": 0, "oid": ""} for path in sorted(folders)]
            entries += self._entries(repo, below)
            if "recursive=true" not in self.path.lower():
                entries = [entry for entry in entries if str(PurePosixPath(entry["path"]).parent) == (folder or ".")]
            return self._send(200, entries)
        siblings = [{"rfilename": path} for path in files]
        info = {
            "id": repo.removeprefix("datasets/"),
            "sha": self.hub.commit_of(repo),
            "siblings": siblings,
            "private": repo in self.hub.private,
            "tags": [],
        }
        return self._send(200, info)

    def _answer_file(self, repo, path):
        content = self.hub.repos.get(repo, {}).get(path)
        if content is None:
            return self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": self.hub.commit_of(repo)}
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self._send(200, content, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(206, content[first : last + 1], headers)

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
