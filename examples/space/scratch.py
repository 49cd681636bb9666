"""
Settings of Gradio that hold from its import on, so this comes first: a folder of its own for what people upload, gone
when the server ends; no calls home; no history of what they did."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path


SCRATCH = Path(tempfile.mkdtemp(prefix="divid_space_"))
UPLOADS, EXAMPLES = SCRATCH / "uploads", SCRATCH / "examples"
UPLOADS.mkdir()
EXAMPLES.mkdir()
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
signal.signal(
    signal.SIGTERM, lambda *_: sys.exit(0)
)  # how servers are told to end, without which nothing is tidied up

os.environ["GRADIO_TEMP_DIR"] = str(UPLOADS)
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
os.environ.setdefault("GRADIO_HEARTBEAT_INTERVAL", "5")  # seconds until it is noticed that a page was closed
