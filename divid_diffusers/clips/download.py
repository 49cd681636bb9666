"""A clip behind a URL, into a file."""

import http.client
import string
import urllib.parse
import urllib.request
from pathlib import Path


MAX_DOWNLOAD_BYTES = 200 * 2**20
DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte


def is_url(source: str | Path) -> bool:
    return str(source).lower().startswith(("http://", "https://"))


def download(url: str, path: Path) -> None:
    """
    Raises ValueError, in a sentence that names the URL, for one that is none, that does not answer, or that gives too
    much.
    """
    try:
        request = urllib.request.Request(_in_ascii(url), headers={"User-Agent": "divid_diffusers"})
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response, open(path, "wb") as file:
            announced = int(response.headers.get("Content-Length") or 0)
            received = 0
            while chunk := response.read(2**20):
                received += len(chunk)
                if max(announced, received) > MAX_DOWNLOAD_BYTES:
                    raise ValueError(
                        f"it is larger than {MAX_DOWNLOAD_BYTES} bytes, fetch it yourself and pass the path"
                    )
                file.write(chunk)
            if received < announced:
                raise OSError(f"the connection ended after {received} of {announced} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(f"Could not download '{url}': {error}.") from error


def _in_ascii(url: str) -> str:
    """
    As a browser sends what is typed into it: other letters in the host's name by IDNA, elsewhere as percent signs.
    """
    scheme, host, *rest = urllib.parse.urlsplit(url.strip())
    if not host.isascii():
        host = host.encode("idna").decode()
    return urllib.parse.urlunsplit(
        [scheme, host, *(urllib.parse.quote(part, safe=string.punctuation) for part in rest)]
    )
