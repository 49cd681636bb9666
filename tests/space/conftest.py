"""The Space as its visitors meet it: one server, with the embedded model, for all tests of this folder."""

import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from media import write_video

from divid_diffusers.data.puppets import Appearance, render


ROOT = Path(__file__).parents[2]
SPACE = ROOT / "examples" / "space"
sys.path.insert(0, str(SPACE))


# Its limits of time are out of the way: no test hangs on how busy the machine is, and what must be stopped for another
# reason is not stopped for having taken too long.
PATIENT = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
import decoding, first_results
decoding.MAX_SECONDS = first_results.BUDGET_SECONDS = 1e6
runpy.run_path(sys.argv[1] + "/app.py", run_name="__main__")
"""


class Server(NamedTuple):
    url: str
    pid: int
    folder: Path  # temporary files of the server
    log: Path

    def files(self) -> list[Path]:
        """
        Of visitors: uploads and results. The server may delete a folder meanwhile: `os.walk` passes over it, `glob`
        fails.
        """
        uploads = self.folder.glob("divid_space_*/uploads")
        return sorted(Path(folder, name) for top in uploads for folder, _, names in os.walk(top) for name in names)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if not find_spec("gradio"):
        pytest.skip("The Space needs gradio: pip install -r examples/space/requirements.txt")
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_HEARTBEAT_INTERVAL": "0.5",
        "TMPDIR": str(folder),
        # Nothing beyond this machine can be reached, and none of it is missed.
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    environment.pop("DIVID_MODEL", None)
    log = folder / "log.txt"
    for _ in range(5):  # Gradio gives up where its own page takes three seconds, as on a busy machine it may
        with open(log, "w") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", PATIENT, str(SPACE)], stdout=out, stderr=out, env=environment
            )
        while process.poll() is None and "public link" not in log.read_text():
            time.sleep(0.2)
        if process.poll() is None or "localhost is not accessible" not in log.read_text():
            break
    assert process.poll() is None, log.read_text()
    url = f"http://127.0.0.1:{port}"
    yield Server(url, process.pid, folder, log)
    process.terminate()
    process.wait()
    assert not list(folder.glob("divid_space_*")), "The server left files behind."


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Two recordings as their visitors might have them: other sizes, lengths, rates and formats than the model's."""
    folder = tmp_path_factory.mktemp("clips")
    person = render(Appearance.sample(2**30 + 21), "raise_arms", 2**30 + 21, num_frames=12, size=96)
    motion = render(Appearance.sample(2**30 + 22), "side_bend", 2**30 + 22, num_frames=9, size=64)
    wide = motion.repeat(2, axis=1).repeat(3, axis=2)
    return str(write_video(folder / "person.mp4", person)), str(write_video(folder / "motion.mp4", wide))
