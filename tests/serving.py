"""Real tracking servers of the tests' own, on loopback: MLflow's, one that asks for a password, and PostgreSQL."""

import base64
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
USER, SECRET = "wachtmeister", "s3cret-Pa55"
_START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_S
    while not what():
        assert time.monotonic() < deadline, "a server does not answer"
        time.sleep(0.05)


@contextmanager
def running(command: list[Any], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a session of its own while the block runs; nothing of that session outlives it."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGINT)  # PostgreSQL ends its children and itself
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an MLflow server whose database and artifacts lie in `folder`."""
    places = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", folder / "artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *places, "--host", HOST, "--port", port, "--workers", 1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # processes that no test needs
    with running([*map(str, command)], folder / "server.log", cwd=folder, env=environment) as process:

        def answers() -> bool:
            assert process.poll() is None, (folder / "server.log").read_text()
            try:
                urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1).close()
            except OSError:
                return False
            return True

        wait_until(answers)
        yield process


@contextmanager
def guarded(server: int) -> Iterator[int]:
    """Put a door before a server, which lets in who says user and password, and yield its port."""

    class Door(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            known = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path != "/health" and self.headers.get("Authorization") != f"Basic {known}":
                status, content, kind = 401, b"who is there?", "text/plain"
            else:
                behind = http.client.HTTPConnection(HOST, server)
                behind.request(self.command, self.path, body, {**self.headers, "Host": f"{HOST}:{server}"})
                answer = behind.getresponse()
                status, content = answer.status, answer.read()
                kind = answer.headers.get("Content-Type", "text/plain")
                behind.close()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Door) as door:
        thread = threading.Thread(target=door.serve_forever, daemon=True)
        thread.start()
        yield door.server_port
        door.shutdown()
        thread.join()


def postgres_program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs; Debian keeps them out of the way."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


class Postgres:
    """A cluster that can be stopped and started again."""

    def __init__(self, folder: Path, owner: dict[str, Any]) -> None:
        self._data, self._log, self._owner, self.port = folder / "data", folder / "log", owner, free_port()

    @property
    def uri(self) -> str:
        return f"postgresql://{USER}:{SECRET}@{HOST}:{self.port}/postgres"

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        options = ["-D", self._data, "-h", HOST, "-p", self.port, "-k", self._data, "-F"]
        command = [postgres_program("postgres"), *map(str, options)]
        with running(command, self._log, cwd=self._data, **self._owner) as process:
            ready = [str(postgres_program("pg_isready")), "-q", "-h", HOST, "-p", str(self.port)]

            def answers() -> bool:
                assert process.poll() is None, self._log.read_text()
                return subprocess.run(ready).returncode == 0

            wait_until(answers)
            yield process


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Make a cluster that is not started; under the user that Debian's package makes where this is root's process."""
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="harness-postgres-") as name:  # not below pytest's, which is its user's own
        folder = Path(name)
        (folder / "password").write_text(SECRET)
        if owner:
            for path in (folder, folder / "password"):
                shutil.chown(path, owner["user"], owner["group"])
        login = ["-U", USER, "-A", "scram-sha-256", "--pwfile", folder / "password", "--no-sync"]
        command = [postgres_program("initdb"), "-D", folder / "data", *login]
        subprocess.run([*map(str, command)], check=True, capture_output=True, cwd=folder, **owner)
        yield Postgres(folder, owner)
