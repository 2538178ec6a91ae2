"""The IPython adapter: `%%bacalhau` and `%bacalhau`, and how a result is shown and bound."""

from __future__ import annotations

import secrets
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from ._autoawait import AutoAwait

if TYPE_CHECKING:
    from ._board import Board
    from ._job import RemoteJob
    from ._session import Session
    from ._stages import CellRequest, JobResult
    from .errors import OptionError
    from .progress import Place, View

_ATTRIBUTE = "_bacalhau_magic"


class Bacalhau:
    """The two magics of one shell; everything heavy is imported when the first of them runs."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._session: Session | None = None
        self._board: Board | None = None
        self._told: str | None = None

    @property
    def session(self) -> Session:
        """The process's session, told where its cells come from."""
        if self._session is None:
            from ._session import session

            found = session()
            around = found.surroundings
            around.namespace = self.shell.user_ns
            around.place = self.place
            if self.kernel is not None:
                around.tell = self.tell
            around.cell = self.cell_id
            around.filename = self._name
            self._session = found
        return self._session

    @property
    def kernel(self) -> Any:
        """The kernel of this shell; None in a terminal."""
        return getattr(self.shell, "kernel", None)

    def place(self) -> Place:
        """Where the cell runs: a live front end, a terminal, or a batch run that nobody looks at."""
        if self.kernel is None:
            return "terminal" if sys.stdout.isatty() or sys.stderr.isatty() or not _is_quiet(self.shell) else "batch"
        return "notebook" if self._parent().get("content", {}).get("allow_stdin", True) else "batch"

    def tell(self, sentence: str) -> None:
        """Show what is going on in the running cell, in one line that the next one replaces; nothing in a batch run."""
        if self.place() != "notebook":
            return
        shown = {"text/plain": sentence}
        if self._told is None:
            self._told = secrets.token_hex(8)
            self.shell.display_pub.publish(data=shown, metadata={}, transient={"display_id": self._told})
        else:
            self.shell.display_pub.publish(data=shown, metadata={}, transient={"display_id": self._told}, update=True)
        self._told = self._told if sentence else None

    def cell_id(self) -> str:
        """The running cell's id, where the front end says one."""
        return str(self._parent().get("metadata", {}).get("cellId", "")) if self.kernel else ""

    def _name(self) -> str:
        """What tracebacks call the running cell; some IPythons count on before a cell runs, some after it."""
        number = int(self.shell.execution_count)
        number -= f"_i{number}" not in self.shell.user_ns
        return f"Cell In[{number}]" if number else "cell"

    def _parent(self) -> Mapping[str, Any]:
        with suppress(Exception):  # a kernel of another make need not know its parent message
            return self.kernel.get_parent() or {}
        return {}

    def open_board(self) -> None:
        """Begin to tell JupyterLab's jobs panel of this session's jobs, where a front end is live."""
        if self.place() == "notebook":
            # On a thread: what it imports takes 0.3 s, which the first cell needs too, but %load_ext does not.
            threading.Thread(target=self._open_board, name="bacalhau-board-open", daemon=True).start()

    def _open_board(self) -> None:
        with suppress(Exception):  # without its panel all the rest works
            from ._board import Board

            self._board = Board(self.session).open()

    def close_board(self) -> None:
        """Tell the panel no more."""
        if self._board is not None:
            self._board.close()
            self._board = None

    # Magics

    @no_var_expand
    def cell(self, line: str, cell: str) -> Any:
        """Run this cell elsewhere: %%bacalhau [options] [-- arguments]. See %bacalhau help."""
        try:
            request = self._read(line, cell)
            if request is None or (shown := self._without_waiting(request)) is not None:
                return None if request is None else shown
            job, view = self._begin(request)
            try:
                result = job.wait(view, stop_on_interrupt=True)
            except BaseException:
                self._end(job, view)
                raise
            return self._show(job, view, result)
        except _option_error() as problem:
            _usage(problem)

    @no_var_expand
    async def cell_awaited(self, line: str, cell: str) -> Any:
        """As `cell`; the kernel's event loop goes on meanwhile."""
        try:
            request = self._read(line, cell)
            if request is None or (shown := self._without_waiting(request)) is not None:
                return None if request is None else shown
            job, view = self._begin(request)
            try:
                result = await job.wait_async(view, stop_on_interrupt=True)
            except BaseException:
                self._end(job, view)
                raise
            return self._show(job, view, result)
        except _option_error() as problem:
            _usage(problem)

    @no_var_expand
    def line(self, line: str) -> Any:
        """%bacalhau [jobs|nodes|show|logs|wait|stop|rerun|get|spec|attach|config|help]: status, and what can be done with jobs."""
        from . import _commands

        try:
            return _commands.run(self.session, line)
        except _option_error() as problem:
            _usage(problem)

    # A cell

    def _read(self, line: str, cell: str) -> CellRequest | None:
        """The request of a cell; None for `--help`."""
        from ._argspec import help_text, parse

        if line.split() in (["-h"], ["--help"]):
            print(help_text())  # noqa: T201 - help is what was asked for
            return None
        return self.session.request(cell, parse(line, self.shell.user_ns))

    def _without_waiting(self, request: CellRequest) -> Any:
        """What `--dry-run`, `--save` and `--bg` give at once; None when the cell is to be waited for."""
        options = request.options
        if options.dry_run or options.save:
            return self.session.spec(request)
        if not options.bg:
            return None
        job = self.session.submitted(request)
        self._keep(job)
        if not options.quiet:
            from .progress import bundle

            self._publish(bundle("submitted"), {})
        return job

    def _begin(self, request: CellRequest) -> tuple[RemoteJob, View]:
        job = self.session.start(request)
        return job, self.session.view(job)

    def _keep(self, job: RemoteJob) -> None:
        """Let `_bacalhau`, and `--job`'s variable, be a job that was sent."""
        self.shell.user_ns["_bacalhau"] = job
        if job.request.options.job:
            self.shell.user_ns[job.request.options.job] = job

    def _end(self, job: RemoteJob, view: View) -> None:
        """Close the view of a wait that gave no result: the job was not sent, or the wait was interrupted."""
        view.close(job.snapshot, None, {})
        if job.is_sent:
            self._keep(job)

    def _show(self, job: RemoteJob, view: View, result: JobResult) -> Any:
        """Show a finished job's outputs in their order, bind its names, and return the cell's value."""
        from ._outputs import outcome_of, outputs
        from .progress import bundle, receipt

        options = job.request.options
        self.session.adopt(job)
        self._keep(job)
        live = self.place() != "batch"
        facts = receipt(job.snapshot, keep=self.session.settings.receipt, live=live and self.kernel is not None)  # type: ignore[arg-type]
        shown = view.close(job.snapshot, None if options.quiet else bundle(outcome_of(result)), facts)
        value = None
        for output in outputs(result, options, receipt=facts, log_shown=view.shows_log):
            if output.kind == "value":
                value = output.value
                if result.error is not None and job.request.shows_value:
                    self._publish(*self.shell.display_formatter.format(value))
            elif output.kind == "stream":
                stream = sys.stdout if output.name == "stdout" else sys.stderr
                stream.write(output.text)
                stream.flush()
            elif output.kind == "display" or not (shown or self.kernel is None):
                self._publish(dict(output.data), dict(output.metadata))
        if result.error is not None:
            # What came back is not lost because something beside it failed, as fetching its files.
            if result.is_whole:
                job.bind(force=True, partial=True)
            if options.raise_error or isinstance(result.error, KeyboardInterrupt):
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

    def _publish(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.shell.display_pub.publish(data=data, metadata=metadata)


def _cell_help() -> str:
    from ._argspec import help_text

    return f"Run this cell elsewhere.\n\n{help_text()}\nEverything else: %bacalhau help"


def _line_help() -> str:
    from ._commands import help_

    return str(help_(None, []))


for _function, _text in ((Bacalhau.cell, _cell_help), (Bacalhau.cell_awaited, _cell_help), (Bacalhau.line, _line_help)):
    _function.getdoc = _text  # type: ignore[union-attr]  # what IPython's `?` asks first; made when it is asked for


def _is_quiet(shell: Any) -> bool:
    """Whether a shell without a kernel is a script's: then nobody watches."""
    return not getattr(shell, "interact", None)


def _option_error() -> type[OptionError]:
    from .errors import OptionError

    return OptionError


def _usage(problem: OptionError) -> NoReturn:
    """A bad line is shown as IPython shows its own: one line and no traceback; the error itself stays its cause."""
    raise UsageError(str(problem)) from problem


def load(shell: Any) -> None:
    """Put the magics into a shell; a second time does nothing."""
    if getattr(shell, _ATTRIBUTE, None) is not None:
        return
    magics = Bacalhau(shell)
    hook = AutoAwait(shell, "bacalhau", magics.cell, magics.cell_awaited)
    hook.install()
    shell.register_magic_function(magics.line, "line", "bacalhau")
    setattr(shell, _ATTRIBUTE, (hook, magics))
    magics.open_board()


def unload(shell: Any) -> None:
    """Take the magics out of a shell."""
    loaded = getattr(shell, _ATTRIBUTE, None)
    if loaded is not None:
        hook, magics = loaded
        hook.remove()
        magics.close_board()
        shell.magics_manager.magics["line"].pop("bacalhau", None)
        delattr(shell, _ATTRIBUTE)
