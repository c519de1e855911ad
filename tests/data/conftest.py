"""Places to look for files, and a web server to download them from."""

import functools
import http.server
import threading

import pytest


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No environment: neither $RNNLAB_DATA nor a filled cache, and an empty folder `given`."""
    monkeypatch.delenv("RNNLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "given").mkdir()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; one whose name starts with `short` is cut to half of what its header says."""

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        content = source.read()
        if self.path.startswith("/short"):
            content = content[: len(content) // 2]
        outputfile.write(content)


@pytest.fixture
def server(tmp_path):
    """A web server of the files under `tmp_path / "web"`: its address."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
