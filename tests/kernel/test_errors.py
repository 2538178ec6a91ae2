"""Remote errors as if they had happened here: chains, notes, groups, classes, exit codes, signals, a shell's failing line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from kernels import Kernel


def failed(shell: Kernel, cell: str) -> str:
    """The text that a failing cell shows, without colours."""
    ran = shell.run(f"%%bacalhau {cell}")
    assert ran.error is not None, ran.text
    return re.sub(r"\x1b\[[0-9;]*m", "", ran.text)


def test_chains_and_notes(shell: Kernel) -> None:
    """A cause and a note are shown as Python shows them, on the cell's own lines, and the text is an attribute."""
    text = failed(shell, "\ntry:\n    {}['k']\nexcept KeyError as e:\n    e.add_note('noted')\n    raise RuntimeError('outer') from e")
    assert re.search(
        r"line 2, in <module>\n    \{\}\['k'\]\n +~+\^+\nKeyError: 'k'\nnoted\n\nThe above exception was the direct cause", text
    )
    assert "line 5, in <module>\n    raise RuntimeError('outer') from e\nRuntimeError: outer" in text
    assert shell.run("import sys; sys.last_value.traceback_text.count('Traceback')").value == "2"


def test_the_cell_reads_its_own_lines(shell: Kernel) -> None:
    """What the cell itself prints of an exception has its lines, and `inspect` finds them, a function's of the notebook as well."""
    shell.run("def sent(x):\n    return 1 / x")
    ran = shell.run(
        "%%bacalhau -i sent\nimport inspect, traceback, warnings\nodd = '\x0c\u2028'\ntry: sent(0)\n"
        "except ZeroDivisionError: traceback.print_exc()\nwarnings.warn('careful')\ndef own():\n    return 2\n"
        "inspect.getsource(own) + inspect.getsource(sent)"
    )
    assert ran.value is not None, ran.text
    assert ast.literal_eval(ran.value) == "def own():\n    return 2\ndef sent(x):\n    return 1 / x\n"
    said = ran.stream("stderr")
    assert "line 3, in <module>\n    try: sent(0)\n" in said
    assert "line 2, in sent\n    return 1 / x\n" in said
    assert "UserWarning: careful\n  warnings.warn('careful')\n" in said


def test_raised_again(shell: Kernel) -> None:
    """An error that is asked for a second time shows where it was raised now, not the first place too."""
    shell.run("from bacalhau_magic import submit\nimport traceback\njob = submit('1/0', quiet=True)\ndef asked():\n    try:\n        job.result()\n"
              "    except ZeroDivisionError as e:\n        return len(traceback.extract_tb(e.__traceback__))")  # fmt: skip
    assert shell.run("first = asked(); first == asked() == asked()").value == "True"


def test_groups(shell: Kernel) -> None:
    """An exception group shows its parts, nested ones too."""
    text = failed(shell, "\nraise ExceptionGroup('eg', [ValueError(1), ExceptionGroup('inner', [TypeError('t')])])")
    assert re.search(r"\n  \+ Exception Group Traceback.*\n  \|   File \"Cell In\[\d+\]\", line 1, in <module>\n", text)
    assert "ExceptionGroup: eg (2 sub-exceptions)" in text
    assert text.count("| TypeError: t") == 1
    assert "_magics" not in text


@pytest.mark.parametrize(
    ("cell", "caught", "ename"),
    [
        ("import json\\njson.loads('{bad')", "ValueError", "JSONDecodeError"),
        ("class Mine(KeyError): pass\\nraise Mine('k')", "KeyError", "Mine"),
        ("open('/none')", "FileNotFoundError", "FileNotFoundError"),
        ("class Own(Exception): pass\\nraise Own()", "Exception", "Own"),
    ],
)
def test_classes_that_do_not_exist_here(shell: Kernel, cell: str, caught: str, ename: str) -> None:
    """A class of the job alone is caught as the built-in class that it is based on, and named as itself."""
    ran = shell.run(
        f'try:\n    get_ipython().run_cell_magic("bacalhau", "-q", "{cell}")\nexcept {caught} as e:\n    print(e.ename, type(e).__name__)'
    )
    own = f"RemoteCellError[{caught}]" if caught != "Exception" else "RemoteCellError"
    assert ran.stream("stdout") == f"{ename} {own}\n", ran.text


@pytest.mark.parametrize(
    ("cell", "code", "said"),
    [
        ("\nimport sys\nsys.exit(3)", 3, "exit code 3"),
        ("\nimport sys\nsys.exit('a reason')", 1, "exit code 1: a reason"),
        ("\nimport os\nos._exit(9)", 9, "exit code 9"),
        ("\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", 139, "killed by SIGSEGV"),
        ("\nimport os, signal\nos.kill(os.getpid(), signal.SIGTERM)", 143, "killed by SIGTERM"),
        ("--lang javascript\nprocess.exit(4)", 4, "exit code 4"),
    ],
)
def test_exit_codes_and_signals(shell: Kernel, cell: str, code: int, said: str) -> None:
    """An exit code comes back as a number, and a signal by its name."""
    assert said in failed(shell, cell)
    assert shell.run("import sys; sys.last_value.exit_code").value == str(code)


@pytest.mark.parametrize(
    ("cell", "line", "source", "code"),
    [
        ("echo one\ncat /none\necho two", "2", "cat /none", 1),
        ("f() {\n  false\n}\nif false; then :; fi\nfalse || true\nf", "2", "false", 1),
        ("true\nx=$(exit 4)", "2", "x=$(exit 4)", 4),
        ("false | cat", "1", "false | cat", 1),
        ("trap 'echo mine' EXIT\nbash -c false || true\n( exit 3 )", "3", "( exit 3 )", 3),
        ("false || true\nexit 7", "None", "", 7),
    ],
)
def test_the_line_of_a_shell(shell: Kernel, cell: str, line: str, source: str, code: int) -> None:
    """A Bash cell's failing line is shown with its exit code; an exit of the cell's own has none."""
    text = failed(shell, f"--lang bash\n{cell}")
    if source:
        assert f"line {line}:\n    {source}\n" in text
    assert shell.run("import sys; e = sys.last_value; e.line, e.source, e.exit_code").value == f"({line}, {source!r}, {code})"
    assert shell.run("e.traceback_text.strip() != ''").value == "True"


def test_a_shell_s_world_is_as_before(shell: Kernel) -> None:
    """The note of the failing line leaves nothing in the cell's environment, and its own traps and children alone."""
    ran = shell.run('%%bacalhau --lang bash\nenv | grep -c BASH_ENV || true\nset +e\ntrap "echo own" ERR\nfalse\nbash -c "false"; echo $?')
    assert ran.stream("stdout") == "0\nown\nown\n1\n", ran.text


def test_a_group_is_taken_apart(shell: Kernel) -> None:
    """`except*` takes the exceptions of a group that the cell raised, each as the built-in class that it is; what nobody takes goes on."""
    cell = "raise ExceptionGroup('eg', [ValueError('v'), KeyError('k'), ExceptionGroup('inner', [TypeError('t'), OSError('o')])])"
    code = (
        "from bacalhau_magic import run\ncaught = []\ntry:\n    try:\n        run(" + repr(cell) + ", quiet=True)\n"
        "    except* (ValueError, TypeError) as group:\n        caught.append([type(e).__name__ for e in group.exceptions])\n"
        "    except* KeyError as group:\n        caught.append(group.exceptions[0].ename)\n"
        "except ExceptionGroup as rest:\n    caught.append(repr(rest.exceptions[0].exceptions[0].ename))\ncaught"
    )
    ran = shell.run(code)
    assert ran.error is None, ran.text
    assert ran.value == repr([["RemoteCellError[ValueError]", "ExceptionGroup"], "KeyError", "'OSError'"])


def test_a_group_that_python_prints_shows_each_part_once(shell: Kernel) -> None:
    """A group that `run` raises is printed by Python itself: with the job's own lines of the group and of each part, and no part twice."""
    cell = (
        "def fail():\n    raise KeyError('deep')\nproblems = [TypeError('plain')]\ntry:\n    fail()\nexcept KeyError as e:\n    problems.append(e)\n"
        "raise ExceptionGroup('outer', [OSError('flat'), ExceptionGroup('inner', problems)])"
    )
    text = shell.run(f"from bacalhau_magic import run\nrun({cell!r}, quiet=True)").text
    for words in ("OSError: flat", "TypeError: plain", "KeyError: 'deep'"):
        assert sum(words in line and "raise" not in line for line in text.split("\n")) == 1, text
    for line in (r"line 8, in <module>", r"line 2, in fail"):
        assert re.search(rf'File "Cell In\[\d+\]", {line}', text), text


def test_the_line_of_typescript(shell: Kernel) -> None:
    """What a TypeScript cell throws has its stack with the cell's own line, although the types were stripped."""
    text = failed(
        shell, "--lang typescript\ninterface Point { x: number }\nconst p: Point = { x: 1 };\nthrow new RangeError(`far: ${p.x}`);\n"
    )
    assert "RangeError: far: 1" in text
    assert re.search(r"at Cell In\[\d+\]:3:7$", text, re.MULTILINE), text


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("%%bacalhau\nprint(missing_total)", "-i missing_total sends the notebook's missing_total"),
        ("%%bacalhau --lang javascript\nconsole.log(missing_total)", "-i missing_total sends the notebook's missing_total"),
        (
            "%%bacalhau\nimport socket\nsocket.create_connection(('example.org', 80), 5)",
            "A job has no network unless it asks: --network full.",
        ),
        ("%%bacalhau -i cfg=./made.csv\nprint(cfg)", "It was sent as a file: open inputs/cfg."),
        ("%%bacalhau -i sent=made=/data/made.json\nprint(sent)", "It was sent as a file: open /data/made.json."),
        ("%%bacalhau --lang javascript -i missing_total\nconsole.log(missing_total)", "open inputs/missing_total.json."),
        ("%%bacalhau -i auto\nundefined_total + 1", "The notebook has no undefined_total either, so -i auto sent none."),
        ("%%bacalhau -o totl\ntotal = 1", "Did you mean -o total?"),
        ('%%bacalhau --lang bash -o totl,half\necho \'{"total": 2, "half": 1}\'', "Did you mean -o total?"),
    ],
    ids=["name", "javascript name", "network", "file", "placed", "javascript, sent", "auto", "result", "key"],
)
def test_beginners_errors_say_what_to_add(shell: Kernel, cell: str, hint: str) -> None:
    """A variable that was not sent, and a network that was not asked for, are told with the option that helps."""
    shell.run("missing_total = made = 5\nopen('made.csv', 'w').write('1')")
    assert hint in shell.run(cell).text


@pytest.mark.parametrize("cell", ["if missing_total > 9:\n    total = 1", "total = 1\ndel total"], ids=["branch", "deleted"])
def test_a_name_that_was_not_bound_in_this_run_is_not_suggested(shell: Kernel, cell: str) -> None:
    """A name that the cell could have bound is no misspelling of itself."""
    shell.run("missing_total = 5")
    said = shell.run(f"%%bacalhau -o total -i missing_total\n{cell}").text
    assert "total" in said
    assert "Did you mean" not in said, said


def test_more_memory_than_the_policy_allows_is_not_advised(shell: Kernel, tmp_path: Path) -> None:
    """A job that was killed at its limit is told to ask for more, unless that limit is the policy's."""
    (tmp_path / "policy.toml").write_text('message = "Ask in room 101."\n[max]\nmemory = "200MB"\n')
    cell = "%%bacalhau --memory 200MB\nlen(bytearray(900_000_000))"
    assert "Ask for more: --memory 800MB." in shell.run(cell).text
    shell.run(f"import os\nos.environ['BACALHAU_MAGIC_POLICY'] = {str(tmp_path / 'policy.toml')!r}")
    said = shell.run(cell).text
    shell.run("del os.environ['BACALHAU_MAGIC_POLICY']")
    assert "killed at its limit of 200 MB" in said
    assert "The policy allows no more memory. Ask in room 101." in said
    assert "Ask for more" not in said


@pytest.mark.parametrize(
    ("limits", "line", "advised", "said"),
    [
        (
            'timeout = "1s"',
            "--timeout 1s",
            "Give it more time with --timeout, or --long",
            "The policy allows no more time. Ask in room 101.",
        ),
        ('timeout = "1h"', "--timeout 1s", "or --long for hours", "Give it more time with --timeout."),
        ('memory = "300MB"', "--memory 200MB", "--memory 800MB", "Ask for more: --memory 300MB."),
    ],
    ids=["used up", "no days", "less than advised"],
)
def test_advice_keeps_to_the_policy(shell: Kernel, tmp_path: Path, limits: str, line: str, advised: str, said: str) -> None:
    """An error, the card's cause, `show` and a later attach tell to ask for what the policy allows, and for no more."""
    (tmp_path / "policy.toml").write_text(f'message = "Ask in room 101."\n[max]\n{limits}\n')
    cell = f"%%bacalhau {line}\nimport time\nhold = len(bytearray(900_000_000 if 'memory' in {line!r} else 1))\ntime.sleep(20)"
    assert advised in shell.run(cell).text
    shell.run(f"import os\nos.environ['BACALHAU_MAGIC_POLICY'] = {str(tmp_path / 'policy.toml')!r}")
    under = shell.run(cell).text
    described = shell.run("%bacalhau show last").text
    told = shell.run("[event.cause.advice for event in _bacalhau.events if hasattr(event, 'cause')]").value
    attached = shell.run("%bacalhau attach last -o hold").text
    shell.run("del os.environ['BACALHAU_MAGIC_POLICY']")
    for text in (under, described, attached):
        assert said in text
        assert advised not in text
    if "timeout" in limits:
        assert "ran longer than its time limit of 1.0 s" in described
    else:
        assert told is not None
        assert said in told
        assert advised not in told


def test_a_folder_that_is_gone_is_named(shell: Kernel) -> None:
    """Where the kernel's current folder was removed each cell and line says so; after going to another they run."""
    shell.run("import os, tempfile\nbefore, gone = os.getcwd(), tempfile.mkdtemp()\nos.chdir(gone)\nos.rmdir(gone)")
    said = [shell.run(line) for line in ("%%bacalhau\n1", "%bacalhau record x.yaml", "from bacalhau_magic import run\nrun('1')")]
    status = shell.run("%bacalhau").text
    shell.run("os.chdir(before)")
    for ran in said:
        assert ran.error is not None
        assert ran.error[0] == "ConfigError"
        assert ran.error[1].startswith("The current folder is gone: it was removed.\nGo to one that is there, as by %cd ~")
    assert "none: The current folder is gone" in status
    assert shell.run("%%bacalhau\n1 + 1").value == "2"


@pytest.mark.parametrize(
    ("line", "cell", "limit"),
    [
        ("--memory 256MB", "print('start', flush=True)\nb = bytearray(800_000_000)", "256 MB of memory"),
        ("--memory 256MB --lang bash", "echo start\nx=$(head -c 900000000 /dev/zero | tr '\\0' a)", "256 MB of memory"),
        ("--disk 50MB", "print('start', flush=True)\nimport time\nf = open('f', 'wb')\nwhile f.write(bytes(1 << 20)): time.sleep(0.02)", "50 MB of disk"),
    ],
    ids=["memory", "memory in bash", "disk"],
)  # fmt: skip
def test_what_was_printed_before_a_limit_is_kept(shell: Kernel, line: str, cell: str, limit: str) -> None:
    """A cell that the node killed keeps its output, has the node's reason, and was tried once."""
    assert f"JobFailedError: The job was killed at its limit of {limit}." in failed(shell, f"{line}\n{cell}")
    assert shell.run("_bacalhau.stdout").value == repr("start\n")
    assert "tried     once" in shell.run("%bacalhau show last").text
