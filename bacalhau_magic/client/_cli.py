"""The Bacalhau CLI as the way to an endpoint, where only that is set up: the same calls, made by a program.

Each route of the API that the client uses is one command. What the CLI does not pass on is missing here too: the
reason of a stop, and which of its two streams the job printed on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from .. import _wire
from ..errors import ApiError, ConfigError, NotFoundError, RejectedError, UnauthorizedError, UnexpectedAnswerError, UnreachableError
from ._budget import budget
from ._logs import LogStreamError
from ._problems import clean
from ._transport import MAX_ANSWER, Transport

if TYPE_CHECKING:
    import httpx

    from .._stages import Endpoint

_JOB = re.compile(r"/orchestrator/jobs/(?P<job>[^/]+)(?:/(?P<part>history|executions|results|rerun))?")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_JSON = re.compile(r"^[\[{]", re.MULTILINE)
_MOST = "1000"
_NEEDED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TERM|TMPDIR|TEMP|TMP|XDG_\w+|(?:LD|DYLD)_LIBRARY_PATH|(?:NIX_)?SSL_CERT_(?:FILE|DIR)|(?:HTTPS?|ALL|NO)_PROXY"
    r"|GODEBUG|SSH_AUTH_SOCK|KUBECONFIG|KRB5CCNAME"
    r"|SYSTEM(?:ROOT|DRIVE)|WINDIR|COMSPEC|PATHEXT|USERPROFILE|HOMEDRIVE|HOMEPATH|(?:LOCAL)?APPDATA|PROGRAMDATA"
    r"|BACALHAU_(?!API_|MAGIC_|PROFILE$)\w+"
)
"""The variables that a program of Go, this one, and one that reaches it by ssh or kubectl may need: paths and addresses, no keys."""
_PIECE = 65536
_PACKET = "@bacalhau "
"""How a packet's line begins; see remote.packets."""

Query = Mapping[str, str | list[str]]


class CliTransport:
    """The commands of one endpoint's CLI; thread-safe. It answers as the API itself would."""

    def __init__(self, endpoint: Endpoint, per_second: float) -> None:
        self.endpoint = endpoint
        self.budget = budget(endpoint, per_second)
        self._downloads = Transport(endpoint, per_second)

    def __repr__(self) -> str:
        return f"CliTransport({self.endpoint.label!r})"

    def close(self) -> None:
        self._downloads.close()

    def stream(self, method: str, url: str, *, anonymous: bool = False, **more: Any) -> AbstractContextManager[httpx.Response]:
        """A file that a node published elsewhere, fetched from there as the CLI would; nothing else is asked without the CLI."""
        if not anonymous:
            raise UnexpectedAnswerError("The Bacalhau CLI does not tell this.", method=method, url=url)
        return self._downloads.stream(method, url, anonymous=True, **more)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        retry: bool = False,
        timeout: float = 35.0,
        background: bool = False,
    ) -> Any:
        """One call of the API by a command of the CLI: the answer in the API's own shape. Raises the ApiError family, ConfigError.

        The CLI sends no headers, and tries again by itself.
        """
        del headers, retry
        asked = {key: str(value) for key, value in (query or {}).items()}
        call = _Call(self, method, path, timeout, background)
        match (method, path):
            case ("GET", "/agent/alive"):
                return call.json("agent", "alive")
            case ("GET", "/agent/version"):
                return call.version()
            case ("GET", "/orchestrator/nodes"):
                return {"Nodes": call.json("node", "list")}
            case ("GET", "/orchestrator/jobs"):
                return {"Items": call.json("job", "list", *_listing(asked)), "NextToken": ""}
            case ("PUT", "/orchestrator/jobs"):
                return call.submit(body or b"")
        found = _JOB.fullmatch(path)
        if found is None:
            raise UnexpectedAnswerError(f"The Bacalhau CLI has no command for {method} {path}.", method=method, url=path)
        return call.of_job(unquote(found["job"]), found["part"] or "", asked)

    def run(self, words: Sequence[str], *, given: bytes = b"", timeout: float) -> bytes:
        """What a command prints. Raises ConfigError where there is no such program, UnreachableError when it takes too long."""
        try:
            done = subprocess.run(
                [program(self.endpoint), *words],
                input=given,
                capture_output=True,
                timeout=timeout + 5.0,
                env=environment(self.endpoint),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnreachableError(
                f"`bacalhau {words[0]} {words[1] if len(words) > 1 else ''}` did not end in time.", unsure=True
            ) from None
        except OSError as problem:
            raise ConfigError(f"{self.endpoint.cli} can't be started: {problem.strerror}.", setting="path") from problem
        if done.returncode != 0:
            raise _problem(self.endpoint, done.stderr or done.stdout)
        if len(done.stdout) > MAX_ANSWER:
            raise UnexpectedAnswerError(f"The Bacalhau CLI answered with more than {MAX_ANSWER // 1_000_000} MB.", unsure=True)
        return done.stdout


class _Call:
    """One request as commands."""

    def __init__(self, transport: CliTransport, method: str, path: str, timeout: float, background: bool) -> None:
        self.transport = transport
        self.method, self.path = method, path
        self.timeout, self.background = timeout, background

    def text(self, *words: str, given: bytes = b"") -> str:
        self.transport.budget.take(background=self.background)
        try:
            return self.transport.run(words, given=given, timeout=self.timeout).decode("utf-8", "replace")
        except ApiError as problem:
            problem.method, problem.url = self.method, f"{self.transport.endpoint.url}{self.path}"
            raise

    def json(self, *words: str) -> Any:
        said = self.text(*words, "--output", "json")
        start = _JSON.search(said)  # at its first use the CLI says before that it makes its folder
        try:
            return json.loads(said[start.start() :] if start else said)
        except (ValueError, RecursionError):
            raise UnexpectedAnswerError(
                f"The Bacalhau CLI printed something that is not JSON: {clean(said[:200])!r}.", method=self.method, url=self.path
            ) from None

    def version(self) -> Any:
        """The server's version; the CLI calls it a success to know only its own."""
        found = dict(self.json("version")).get("serverVersion")
        if not found:
            raise UnreachableError(f"{self.transport.endpoint.label} does not answer the Bacalhau CLI.", method=self.method, url=self.path)
        return found

    def submit(self, body: bytes) -> Any:
        # By stdin: neither code nor values lie in a file.
        spec = json.dumps(json.loads(body)["Job"]).encode()
        return {"JobID": self._id(self.text("job", "run", "--wait=false", "--id-only", "--no-template", given=spec))}

    def _id(self, said: str) -> str:
        """The id that a command prints as its last word; "" where it is none."""
        word = said.split()[-1] if said.split() else ""
        return word if word.startswith("j-") else ""

    def of_job(self, job: str, part: str, asked: Mapping[str, str]) -> Any:
        space = ("--namespace", asked["namespace"]) if asked.get("namespace") else ()
        match (self.method, part):
            case ("GET", ""):
                return {"Job": dict(self.json("job", "describe", job, *space)).get("Job")}
            case ("GET", "history"):
                return self._history(job, space, asked.get("next_token", ""))
            case ("GET", "executions"):
                return {"Items": self.json("job", "executions", job, *space, "--limit", _MOST)}
            case ("GET", "results"):
                executions = self.json("job", "executions", job, *space, "--limit", _MOST)
                published = [dict(one).get("PublishedResult") or {} for one in executions or []]
                return {"Items": [result for result in published if result.get("Type")]}
            case ("PUT", "rerun"):
                return {"JobID": self._id(self.text("job", "rerun", job, "--wait=false", "--id-only"))}
            case ("DELETE", ""):
                self.text("job", "stop", job, *space, "--quiet")
                return {}
        raise UnexpectedAnswerError(f"The Bacalhau CLI has no command for {self.method} {self.path}.", method=self.method, url=self.path)

    def _history(self, job: str, space: Sequence[str], token: str) -> Any:
        """The history after a token of ours, how many items were seen: the CLI passes on no token of the server's."""
        # The state first: what is over then has its whole history.
        state = dict(dict(self.json("job", "describe", job, *space)).get("Job") or {}).get("State") or {}
        items = self.json("job", "history", job, *space, "--limit", _MOST) or []
        seen = _wire.whole_number(token) or 0
        return {"Items": items[seen:], "NextToken": "" if state.get("StateType") in _wire.TERMINAL else str(len(items))}


def _listing(asked: Mapping[str, str]) -> list[str]:
    words = ["--limit", asked.get("limit", _MOST), "--order-by", asked.get("order_by", "created_at"), "--labels", asked.get("labels", "")]
    return [*words, "--order-reversed"] if asked.get("reverse") else words


def program(endpoint: Endpoint) -> str:
    """The CLI's executable; raises ConfigError where there is none."""
    found = shutil.which(endpoint.cli)
    if found is None:
        raise ConfigError(
            f"There is no program {endpoint.cli!r}, which BACALHAU_MAGIC_TRANSPORT=cli needs.",
            setting="path",
            hint="Name the Bacalhau CLI's executable by BACALHAU_PATH, or leave BACALHAU_MAGIC_TRANSPORT out.",
        )
    return found


def environment(endpoint: Endpoint) -> dict[str, str]:
    """The CLI's environment: of this process's own what it needs, where keys of other things are not, and this endpoint's address and credential."""
    kept = {name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name.upper())}
    parts, credential = urlsplit(endpoint.url), endpoint.credential
    port = parts.port or (443 if parts.scheme == "https" else 80)
    named = {
        "BACALHAU_API_HOST": endpoint.url,
        "BACALHAU_API_PORT": str(port),
        "BACALHAU_API_TLS_USETLS": "true" if parts.scheme == "https" else "",
        "BACALHAU_API_TLS_CAFILE": endpoint.ca_file,
        "BACALHAU_API_TLS_INSECURE": "" if endpoint.verify else "true",
        "BACALHAU_API_KEY": credential.key,
        "BACALHAU_API_USERNAME": credential.username,
        "BACALHAU_API_PASSWORD": credential.password,
    }
    return kept | {name: value for name, value in named.items() if value}


def _problem(endpoint: Endpoint, printed: bytes) -> ApiError:
    """What the CLI's last words mean, in our own error tree."""
    text = clean(printed.decode("utf-8", "replace"))
    said = text.rpartition("Error: ")[2].partition("Hint: ")[0].strip() or "it failed and said nothing"
    said = " ".join(said.split()).rstrip(".")
    low, label = said.lower(), endpoint.label
    if "not running or not reachable" in low or "connection refused" in low or "no such host" in low or "certificate" in low:
        return UnreachableError(f"{label} can't be reached by the Bacalhau CLI: {said}.")
    if "unauthorized" in low or "forbidden" in low or "capability" in low:
        return UnauthorizedError(
            f"{label} refuses the request: {said}. {endpoint.credential.sentence}",
            status=403 if "forbidden" in low or "capability" in low else 401,
            credential_origin=endpoint.credential.origin,
            hint="Write %bacalhau login, or log the CLI in.",
        )
    if "not found" in low:
        return NotFoundError(f"{label}: {said}.", status=404)
    return RejectedError(f"{label} refuses the request: {said}.", status=400)


# Logs


class CliLogStream:
    """A LogStream of a log as `bacalhau job logs` prints it: all of it counts as stdout, because the CLI keeps the two streams in one."""

    def __init__(self, process: subprocess.Popen[bytes], label: str) -> None:
        self._process = process
        self._label = label
        self._closed = threading.Event()
        self._pieces: queue.Queue[bytes] = queue.Queue(256)
        self._errors: list[bytes] = []
        self.silence: float | None = None
        assert process.stdout is not None
        assert process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout,), name="bacalhau cli log", daemon=True),
            threading.Thread(target=lambda: self._errors.append(process.stderr.read()), name="bacalhau cli errors", daemon=True),  # type: ignore[union-attr]
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> CliLogStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self, pipe: IO[bytes]) -> None:
        while piece := os.read(pipe.fileno(), _PIECE):
            self._put(piece)
        self._put(b"")

    def _put(self, piece: bytes) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=0.2)
                return

    def __iter__(self) -> Iterator[tuple[int, str]]:
        split = _Streams()
        while not self._closed.is_set():
            try:
                piece = self._pieces.get(timeout=self.silence)
            except queue.Empty:
                raise TimeoutError from None
            yield from split.feed(piece)
            if not piece:
                break
        if not self._closed.is_set() and self._process.wait() != 0:
            self._threads[1].join(5)
            said = clean(b"".join(self._errors).decode("utf-8", "replace")).rpartition("Error: ")[2]
            raise LogStreamError(" ".join(said.split()) or "The log ended with an error.", method="GET", url=self._label)

    def close(self) -> None:
        """End the command at once, from any thread."""
        if not self._closed.is_set():
            self._closed.set()
            self._process.kill()
            self._process.wait()
            for thread in self._threads:
                thread.join(2)
            for pipe in (self._process.stdout, self._process.stderr):
                if pipe:
                    pipe.close()


class _Streams:
    """Bytes of the merged log as (stream, text): a packet that follows an open line of stderr begins a line of its own again."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[tuple[int, str]]:
        """What is whole by now; an empty piece is the end. Lines stay whole up to what a server sends at once."""
        data = self._rest + piece
        cut = len(data) if not piece or len(data) > _PIECE else data.rfind(b"\n") + 1
        whole, self._rest = data[:cut], data[cut:]
        for line in _LINE.findall(whole.decode("utf-8", "replace")):
            before, packet, after = line.partition(_PACKET)
            if before:
                yield (_wire.STDERR if packet else _wire.STDOUT), before
            if packet:
                yield _wire.STDOUT, packet + after


def open_cli_stream(endpoint: Endpoint, job_id: str, *, namespace: str, follow: bool, execution_id: str, tail: bool) -> CliLogStream:
    """Open a job's log by the CLI. Raises ConfigError where there is no such program."""
    facts = {"--namespace": namespace, "--execution-id": execution_id}
    words = ["job", "logs", job_id, *(word for name, value in facts.items() if value for word in (name, value))]
    words += ["--follow"] if follow else []
    words += ["--tail"] if tail else []
    command = [program(endpoint), *words]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(endpoint)
        )
    except OSError as problem:
        raise ConfigError(f"{endpoint.cli} can't be started: {problem.strerror}.", setting="path") from problem
    return CliLogStream(process, endpoint.label)
