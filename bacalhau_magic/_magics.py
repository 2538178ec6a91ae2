"""The IPython adapter: `%%bacalhau` and `%bacalhau`, and how a result is shown and bound."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from . import _shellhook
from ._autoawait import AutoAwait, Pair
from ._frontend import FrontEnd

if TYPE_CHECKING:
    from ._board import Board
    from ._job import RemoteJob
    from ._session import Session
    from ._stages import CellRequest, JobResult
    from .progress import View

_ATTRIBUTE = "_bacalhau_magic"


class Bacalhau:
    """The two magics of one shell; everything heavy is imported when the first of them runs."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._session: Session | None = None
        self._board: Board | None = None
        self._opening: threading.Thread | None = None
        self._front = FrontEnd(shell)

    @property
    def session(self) -> Session:
        """The process's session, told where its cells come from."""
        if self._session is None:
            from ._session import session

            self.surround(session())
        assert self._session is not None, "a session is surrounded once it is made"
        return self._session

    def surround(self, session: Session) -> None:
        """Tell the session where its cells come from, and where it shows what becomes of them."""
        if self._session is not None:
            return
        from ._notebook import ShellDisplay

        self._session = session
        around = session.surroundings
        around.namespace = self.shell.user_ns
        display = around.display = ShellDisplay(self.shell, self._front, session)
        front = self._front
        around.place, around.cell, around.filename, around.kernel = front.place, front.cell, front.filename, front.kernel_id
        around.audience = front.audience
        if front.kernel is not None:
            around.tell = display.tell
        self.shell.events.register("post_run_cell", self._after_cell)

    @property
    def _display(self) -> Any:
        return self.session.surroundings.display

    def close(self) -> None:
        """Take out what the first magic put into the shell."""
        _shellhook.surrounds.remove(self.surround)
        if self._session is not None:
            self.shell.events.unregister("post_run_cell", self._after_cell)

    def _after_cell(self, _result: object) -> None:
        self._display.news()

    def open_board(self) -> None:
        """Begin to tell JupyterLab's jobs panel of this session's jobs, where a front end is live."""
        if self._front.place() == "notebook":
            # On a thread: what it imports takes 0.3 s, which the first cell needs too, but %load_ext does not.
            self._opening = threading.Thread(target=self._open_board, name="bacalhau-board-open", daemon=True)
            self._opening.start()

    def _opened(self) -> None:
        """Wait until that thread is done: two threads that import the same modules can get them half made."""
        if self._opening is not None and self._opening is not threading.current_thread():
            self._opening.join()
            self._opening = None

    def _open_board(self) -> None:
        with suppress(Exception):  # without its panel all the rest works
            from ._board import Board

            self._board = Board(self.session).open()

    def close_board(self) -> None:
        """Tell the panel no more."""
        self._opened()
        if self._board is not None:
            self._board.close()
            self._board = None

    # Magics

    @no_var_expand
    def cell(self, line: str, cell: str) -> Any:
        """Run this cell elsewhere: %%bacalhau [options] [-- arguments]. See %bacalhau help."""
        self._opened()
        with _usage():
            request = self._read(line, cell)
            if request is None or _only_shown(request):
                return request and self.session.spec(request)
            job = self._begin(request)
            if request.options.bg:
                with self._display.sending(job):
                    job.wait_sent()
                return self._sent(job)
            view = self.session.view(job)
            try:
                result = job.wait(view, stop_on_interrupt=request.options.stops_on_interrupt)
            except BaseException:
                self._end(job, view)
                raise
            return self._show(job, view, result)

    @no_var_expand
    async def cell_awaited(self, line: str, cell: str) -> Any:
        """As `cell`; the kernel's event loop goes on meanwhile."""
        self._opened()
        with _usage():
            request = self._read(line, cell)
            if request is None or _only_shown(request):
                return request and self.session.spec(request)
            job = self._begin(request)
            if request.options.bg:
                with self._display.sending(job):
                    await job.wait_sent_async()
                return self._sent(job)
            view = self.session.view(job)
            try:
                result = await job.wait_async(view, stop_on_interrupt=request.options.stops_on_interrupt)
            except BaseException:
                self._end(job, view)
                raise
            return self._show(job, view, result)

    @no_var_expand
    def line(self, line: str) -> Any:
        """%bacalhau [verb]: status, and what can be done with jobs, clusters, settings and recordings. See %bacalhau help."""
        self._opened()
        from . import _commands

        with _usage():
            return _commands.run(self.session, line)

    @no_var_expand
    async def line_awaited(self, line: str) -> Any:
        """As `line`; the kernel's event loop goes on while a job is waited for."""
        self._opened()
        from . import _commands

        with _usage():
            return await _commands.run_awaited(self.session, line)

    # A cell

    def _read(self, line: str, cell: str) -> CellRequest | None:
        """The request of a cell; None for `--help`."""
        from ._argspec import help_text, parse

        if line.split() in (["-h"], ["--help"]):
            print(help_text())  # noqa: T201 - help is what was asked for
            return None
        return self.session.request(cell, parse(line, self.shell.user_ns))

    def _begin(self, request: CellRequest) -> RemoteJob:
        return self.session.start(request)

    def _sent(self, job: RemoteJob) -> RemoteJob:
        self._keep(self.session.sent(job))
        return job

    def _keep(self, job: RemoteJob) -> None:
        """Let `_bacalhau`, and `--job`'s variable, be a job that was sent."""
        self.shell.user_ns["_bacalhau"] = job
        if job.request.options.job:
            self.shell.user_ns[job.request.options.job] = job

    def _end(self, job: RemoteJob, view: View) -> None:
        """A wait gave no result: the job was not sent, or the wait was interrupted."""
        self._display.broke(job, view)
        if job.is_sent:
            self._keep(job)

    def _show(self, job: RemoteJob, view: View, result: JobResult) -> Any:
        """Show a finished job's outputs, bind its names, and return the cell's value."""
        self.session.adopt(job)
        self._keep(job)
        value = self._display.ended(job, view, result)
        if result.error is not None:
            # What came back is not lost because something beside it failed, as fetching its files.
            if result.is_whole:
                job.bind(force=True, partial=True)
            if job.request.options.raise_error or isinstance(result.error, KeyboardInterrupt):
                raise result.error
            if not result.is_whole:
                job.mark()
            self._say_error(result.error)
            return value if job.request.shows_value else None
        job.bind(force=True)
        return value if job.request.shows_value else None

    def _say_error(self, error: BaseException) -> None:
        """The text that raising it would have shown."""
        render = getattr(error, "_render_traceback_", None)
        lines = render() if render else [f"{type(error).__name__}: {error}"]
        sys.stderr.write("\n".join(lines) + "\n")


def _only_shown(request: CellRequest) -> bool:
    return bool(request.options.dry_run or request.options.save)


def _cell_help() -> str:
    from ._argspec import help_text

    return f"Run this cell elsewhere.\n\n{help_text()}\nEverything else: %bacalhau help"


def _line_help() -> str:
    from ._commands import help_

    return str(help_(None, []))


for _function, _text in (
    (Bacalhau.cell, _cell_help),
    (Bacalhau.cell_awaited, _cell_help),
    (Bacalhau.line, _line_help),
    (Bacalhau.line_awaited, _line_help),
):
    _function.getdoc = _text  # type: ignore[union-attr]  # what IPython's `?` asks first; made when it is asked for


@contextmanager
def _usage() -> Iterator[None]:
    """A bad line is shown as IPython shows its own: one line and no traceback; the error itself stays its cause.

    A group loses its parts: of groups IPython shows the local frames alone, whatever they bring.
    """
    alone = None
    try:
        yield
    except Exception as problem:
        from .errors import OptionError, RemoteGroupError

        if isinstance(problem, RemoteGroupError):
            alone = problem.alone()
        if isinstance(problem, OptionError):
            raise UsageError(str(problem)) from problem
        if alone is None:
            raise
    if alone is not None:
        try:
            raise alone
        finally:
            alone.__context__ = None  # a group there counts as well, and whoever uses this is still handling it


def load(shell: Any) -> None:
    """Put the magics into a shell; a second time does nothing."""
    if getattr(shell, _ATTRIBUTE, None) is not None:
        return
    magics = Bacalhau(shell)
    _shellhook.surrounds.append(magics.surround)
    cell, line = Pair(magics.cell, magics.cell_awaited), Pair(magics.line, magics.line_awaited)
    hook = AutoAwait(shell, "bacalhau", cell, line, frozenset({"wait", "attach"}))
    hook.install()
    setattr(shell, _ATTRIBUTE, (hook, magics))
    magics.open_board()


def unload(shell: Any) -> None:
    """Take the magics out of a shell."""
    if (loaded := getattr(shell, _ATTRIBUTE, None)) is not None:
        hook, magics = loaded
        hook.remove()
        magics.close_board()
        magics.close()
        delattr(shell, _ATTRIBUTE)
