"""`python -m bacalhau_magic try | doctor | jobs | nbval | policy | node …`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import BacalhauMagicError, OptionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 all well, 1 it failed, 2 a wrong call."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except BacalhauMagicError as problem:
        print(f"bacalhau_magic: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who read has gone (`… | head`); what Python still flushes at its end must not complain of that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bacalhau_magic", description="Notebook cells that run elsewhere.")
    verbs = parser.add_subparsers(required=True, metavar="try | doctor | jobs | nbval | policy | node")
    trial = verbs.add_parser("try", help="run the first notebook's cells in this terminal, on the embedded node")
    trial.add_argument("--lab", action="store_true", help="open the notebook in JupyterLab instead")
    trial.set_defaults(run=_try)
    verbs.add_parser("nbval", help="print the path of the file for pytest --nbval --nbval-sanitize-with").set_defaults(run=_nbval)
    doctor = verbs.add_parser("doctor", help="check the endpoint, its nodes and this installation, and run a cell of each language")
    doctor.add_argument("--json", action="store_true", help="print the checks as JSON")
    doctor.set_defaults(run=_doctor)
    jobs = verbs.add_parser("jobs", help="list the jobs that were sent from this machine")
    jobs.add_argument("--all", action="store_true", help="all jobs of the endpoint")
    jobs.set_defaults(run=_jobs)
    policy = verbs.add_parser("policy", help="show the policy in force, or check notebooks against it")
    policy.set_defaults(run=_policy)
    check = policy.add_subparsers(metavar="check").add_parser(
        "check", help="list the cells that would be refused; exit code 1 if any, 2 if that can't be told"
    )
    check.add_argument("notebooks", metavar="NOTEBOOK", nargs="+")
    check.add_argument(
        "--policy", metavar="FILE", default="", help="a policy file in the place of the one that BACALHAU_MAGIC_POLICY names"
    )
    check.set_defaults(run=_policy_check)
    serving = verbs.add_parser("node", help="the embedded node: serve here, or start, status, env, logs, stop, prune")
    serving.set_defaults(run=_node_serve)
    node = serving.add_subparsers(metavar="start | status | env | logs | stop | prune")
    start = node.add_parser("start", help="start the node, or find the running one")
    start.add_argument("--open-port", action="store_true", help="also open a port without a token, for tools that send no credentials")
    start.set_defaults(run=_node_start)
    for name, help_, run in (
        ("status", "say whether it runs, and what it uses", _node_status),
        ("env", "print host, port and key for the Bacalhau CLI", _node_env),
        ("logs", "print the node's own log", _node_logs),
        ("stop", "stop the node; running jobs end", _node_stop),
    ):
        node.add_parser(name, help=help_).set_defaults(run=run)
    prune = node.add_parser("prune", help="remove finished jobs and their files")
    prune.add_argument("--older-than", metavar="TIME", default="0s", help="only jobs that ended longer ago, as in 7d")
    prune.set_defaults(run=_node_prune)
    return parser


def _try(chosen: argparse.Namespace) -> int:
    from . import _trial

    return _trial.open_lab(sys.stdout) if chosen.lab else int(_trial.run(sys.stdout) > 0)


def _nbval(_: argparse.Namespace) -> int:
    _write(str(Path(__file__).with_name("nbval.cfg")))
    return 0


def _policy(_: argparse.Namespace) -> int:
    from . import _policies
    from ._session import session

    _write(repr(_policies.policy(session(), [])))
    return 0


def _policy_check(chosen: argparse.Namespace) -> int:
    from . import _policies
    from ._session import session

    if chosen.policy:
        os.environ["BACALHAU_MAGIC_POLICY"] = chosen.policy
    refused = 0
    try:
        for name in chosen.notebooks:
            table = _policies.check(session().settings, Path(name))
            _write(f"{name}\n{table!r}")
            refused += len(table)
    except BacalhauMagicError as problem:  # 1 says that cells would be refused: nothing is known of them here
        print(f"bacalhau_magic: {problem}", file=sys.stderr)  # noqa: T201
        return 2
    return int(refused > 0)


def _jobs(chosen: argparse.Namespace) -> int:
    from . import _commands
    from ._session import session

    _write(repr(_commands.jobs(session(), ["--all" if chosen.all else "--mine"])))
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    from . import _diagnosis, _doctor
    from ._session import session

    tell = session().surroundings.tell

    def done(check: _diagnosis.Check) -> None:
        tell("")
        _write(_diagnosis.line(check))

    found = _doctor.diagnose(session(), tell) if chosen.json else _doctor.diagnose(session(), tell, done)
    _write(found.to_json() if chosen.json else found.summary)
    return 0 if found else 1


def _node_serve(_: argparse.Namespace) -> int:
    from .node.__main__ import main as serve

    return serve([])


def _node_start(chosen: argparse.Namespace) -> int:
    from .node import _daemon

    node = _daemon.start()
    _write(f"The embedded node runs (process {node.pid}, version {node.version}).")
    if chosen.open_port:
        opened = _daemon.environment(open_port=True)
        _write(f"http://{opened.host}:{opened.port}")
        print("Warning: every program and user of this machine can run jobs there, without a key.", file=sys.stderr)  # noqa: T201
    return 0


def _node_status(_: argparse.Namespace) -> int:
    from .node import _daemon

    status = _daemon.status()
    if not status.running:
        _write("The embedded node does not run; the first cell starts it.")
        return 0
    _write("The embedded node runs.")
    for name, value in status.facts.items():
        _write(f"  {name}: {value}")
    return 0


def _node_env(_: argparse.Namespace) -> int:
    from .node import _daemon

    opened = _daemon.environment()
    for name, value in (("HOST", opened.host), ("PORT", opened.port), ("KEY", opened.key)):
        _write(f"export BACALHAU_API_{name}={value}")
    return 0


def _node_logs(_: argparse.Namespace) -> int:
    from .node import _daemon

    sys.stdout.write(_daemon.logs())
    return 0


def _node_stop(_: argparse.Namespace) -> int:
    from .node import _daemon

    _write("The embedded node is stopped." if _daemon.stop() else "The embedded node does not run.")
    return 0


def _node_prune(chosen: argparse.Namespace) -> int:
    from .node import _daemon
    from .options import duration, size_text

    try:
        older = 0.0 if chosen.older_than in ("0", "0s") else duration(chosen.older_than)
    except ValueError as problem:
        raise OptionError(f"--older-than: {problem}.", option="--older-than") from None
    done = _daemon.prune(older)
    _write(f"Removed {done['Jobs']} jobs and freed {size_text(done['Bytes'])}.")
    return 0


def _write(text: object) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
