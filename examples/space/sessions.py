"""Whose files are whose, so that they go when their owner does.

Gradio deletes files by age alone. And it stores an upload under the digest of its content: two people who send the
same clip share one file, which must stay until both have gone.
"""

import shutil
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from pathlib import Path


JUST_UPLOADED = 5.0  # seconds: somebody else may have sent the same clip and not asked for anything yet


class Sessions:
    """
    Args:
        uploads: the folder that Gradio stores uploads in. Results go into a folder below it, one per session.
    """

    def __init__(self, uploads: Path):
        self.uploads = uploads.resolve()
        self.lock = threading.Lock()
        self.held: dict[str, set[Path]] = defaultdict(set)
        self.folders: dict[str, Path] = {}
        self.running: Counter[str] = Counter()
        self.closed: deque[str] = deque(maxlen=1000)  # the last who left: more than can be waiting for their turn

    def hold(self, session: str, paths: Iterable[str]) -> None:
        """
        These uploads are used by this session; what is not an upload, such as an example, is nobody's. Who had left is
        back: a phone that lost its connection.
        """
        ours = {path for path in map(Path, paths) if self.uploads in path.resolve().parents}
        with self.lock:
            self.held[session] |= ours
            if session in self.closed:
                self.closed.remove(session)

    def begin(self, session: str) -> Path:
        """The folder for what this session is about to be given."""
        with self.lock:
            self.running[session] += 1
            folder = self.folders.setdefault(session, self.uploads / "results" / uuid.uuid4().hex)
            folder.mkdir(parents=True, exist_ok=True)
            return folder

    def end(self, session: str) -> None:
        with self.lock:
            self.running[session] -= 1
            if not self.running[session]:
                del self.running[session]
            gone = session in self.closed and session not in self.running
        if gone:
            self.close(session)

    def gone(self, session: str) -> bool:
        """Whether this session has ended, and has asked for nothing since: what it asked for before may stop."""
        with self.lock:
            return session in self.closed

    def close(self, session: str) -> None:
        """Delete what was this session's alone; if it is still being served, then as soon as that is over."""
        with self.lock:
            if session not in self.closed:
                self.closed.append(session)
            if session in self.running:
                return
            folder, paths = self.folders.pop(session, None), self.held.pop(session, set())
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        for path in paths:
            self.delete(path)

    def delete(self, path: Path) -> None:
        with self.lock:
            if any(path in paths for paths in self.held.values()):
                return
            try:
                age = time.time() - path.stat().st_ctime
                if age >= JUST_UPLOADED:
                    path.unlink()
                    path.parent.rmdir()  # named after the content; not empty if it was sent under several names
            except OSError:
                return
        if age < JUST_UPLOADED:
            timer = threading.Timer(JUST_UPLOADED - age + 0.1, self.delete, [path])
            timer.daemon = True
            timer.start()
