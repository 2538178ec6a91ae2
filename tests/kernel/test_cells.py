"""Cells in a real kernel on the embedded node: values, names, outputs, errors, languages."""

from __future__ import annotations

from pathlib import Path

from kernels import Kernel


def test_a_value_comes_back(batch: Kernel) -> None:
    """The last expression is the cell's value, an object of this kernel, after what was printed."""
    ran = batch.run("%%bacalhau\nprint('hello')\n6 * 7")
    assert ran.error is None, ran.text
    assert [output["type"] for output in ran.outputs] == ["display_data", "stream", "execute_result"]
    assert ran.outputs[0]["content"]["data"]["text/plain"] == "bacalhau: completed"
    assert ran.stream("stdout") == "hello\n"
    assert ran.value == "42"
    assert batch.run("_ + 1").value == "43"


def test_the_bundle_is_constant_and_bare_in_batch(batch: Kernel) -> None:
    """In a batch run nothing in the outputs differs from one run to the next: no ids, no times, no metadata."""
    first, second = (batch.run("%%bacalhau\n1") for _ in range(2))
    assert first.outputs[0] == second.outputs[0]
    assert first.outputs[0]["content"]["metadata"] == {}
    assert first.outputs[0]["content"]["data"]["application/vnd.bacalhau.job+json"] == {"version": 1, "outcome": "completed"}


def test_names_in_and_out(batch: Kernel) -> None:
    """-i sends variables, -o binds globals; then the cell has no value, and its last expression is still shown."""
    batch.run("x = {('a', 1): {1, 2}, 'deep': [b'\\x00', 10**30]}")
    ran = batch.run("%%bacalhau -i x -o y,n\ny = {'got': x}\nn = len(x)\nn + 100")
    assert ran.error is None, ran.text
    assert "102" in ran.text
    assert batch.run("y['got'] == x, n").value == "(True, 2)"


def test_semicolon_hides_the_value(batch: Kernel) -> None:
    """A trailing semicolon hides the value, as in a local cell."""
    assert batch.run("%%bacalhau\n6 * 7;").value is None


def test_quiet_leaves_the_bundle_out(batch: Kernel) -> None:
    """-q shows the result alone."""
    assert [output["type"] for output in batch.run("%%bacalhau -q\n1").outputs] == ["execute_result"]


def test_missing_name(batch: Kernel) -> None:
    """A wanted name that the cell does not bind is an error that names it, and nothing is bound."""
    batch.run("a = 'old'")
    ran = batch.run("%%bacalhau -o a,b\na = 1")
    assert ran.error is not None
    assert ran.error[0] == "MissingResultError"
    assert "b" in ran.error[1]
    assert batch.run("a").value == "'old'"


def test_unsendable_value_is_shown(batch: Kernel) -> None:
    """A last expression that can't travel is shown by its own text, without an error."""
    ran = batch.run("%%bacalhau\nobject")
    assert ran.error is None, ran.text
    assert "object" in ran.text


def test_unsendable_name_is_refused_and_the_rest_kept(batch: Kernel) -> None:
    """A wanted name that can't travel raises by name; the others are kept on the job."""
    ran = batch.run("%%bacalhau -o good,bad\ngood, bad = 1, object()")
    assert ran.error is not None
    assert "bad" in ran.error[1]
    assert batch.run("_bacalhau.outputs").value == "{'good': 1}"


def test_remote_error_points_at_the_cell(batch: Kernel) -> None:
    """A remote exception raises here, with the cell's own line, and is the built-in class too."""
    ran = batch.run("%%bacalhau\nd = {}\nprint('before')\nd['missing']")
    assert ran.error is not None
    assert "KeyError" in ran.text
    assert "line 3" in ran.text
    assert "d['missing']" in ran.text
    assert "bootstrap" not in ran.text
    assert "runner" not in ran.text
    assert ran.stream("stdout") == "before\n"
    caught = batch.run(
        "try:\n    get_ipython().run_cell_magic('bacalhau', '-q', \"int('x')\")\nexcept ValueError as e:\n    print('caught', e.ename)"
    )
    assert "caught ValueError" in caught.text


def test_no_raise_error(batch: Kernel) -> None:
    """--no-raise-error gives None and keeps the error; the wanted name holds a marker that raises on use."""
    batch.run("kept = 'old'")
    ran = batch.run("%%bacalhau --no-raise-error -o kept\n1/0")
    assert ran.error is None, ran.text
    assert batch.run("type(_bacalhau.error).__mro__[2].__name__").value is not None
    assert batch.run("isinstance(_bacalhau.error, ZeroDivisionError)").value == "True"
    used = batch.run("kept + 'x'")
    assert used.error is not None
    assert used.error[0] == "ResultError"


def test_bash(batch: Kernel) -> None:
    """Bash shows text; one name gets the parsed stdout; $NAME has texts and numbers."""
    ran = batch.run("%%bacalhau --lang bash\necho 3.10")
    assert (ran.stream("stdout"), ran.value) == ("3.10\n", None)
    batch.run("who = 'wörld'")
    ran = batch.run('%%bacalhau --lang bash -i who -o said\necho "hello $who"')
    assert ran.error is None, ran.text
    assert batch.run("said").value == "'hello wörld\\n'"
    assert batch.run("%%bacalhau --lang bash\necho '{\"a\": [1, 2]}'").value == "{'a': [1, 2]}"


def test_bash_fails_by_its_exit_code(batch: Kernel) -> None:
    """A non-zero exit raises with its code and the last words on stderr."""
    ran = batch.run("%%bacalhau --lang bash\necho oops >&2\nexit 7")
    assert ran.error is not None
    assert ran.error[0] == "JobFailedError"
    assert "7" in ran.error[1]
    assert batch.run("import sys; sys.last_value.exit_code, 'oops' in sys.last_value.stderr_tail").value == "(7, True)"


def test_javascript(batch: Kernel) -> None:
    """JavaScript has inputs.NAME, top-level await and require; JSON on stdout is the value."""
    batch.run("n = [1, 2, 3]")
    code = "const fs = require('fs');\nconst s = await Promise.resolve(inputs.n.reduce((a, b) => a + b));\nconsole.log(JSON.stringify({s, d: fs.existsSync('inputs/n.json')}));"
    ran = batch.run(f"%%bacalhau --lang javascript -i n\n{code}")
    assert ran.error is None, ran.text
    assert ran.value == "{'s': 6, 'd': True}"


def test_javascript_error_has_the_cells_line(batch: Kernel) -> None:
    """An uncaught error in JavaScript raises with its name and the cell's line."""
    ran = batch.run("%%bacalhau --lang javascript\nconst a = 1;\nthrow new TypeError('bad thing');")
    assert ran.error is not None
    assert "bad thing" in ran.text
    assert ":2" in ran.text


def test_typescript(batch: Kernel) -> None:
    """TypeScript cells run by Node.js's own type stripping."""
    ran = batch.run("%%bacalhau --lang typescript\nconst n: number = 21;\nconsole.log(JSON.stringify(n * 2));")
    assert ran.error is None, ran.text
    assert ran.value == "42"


def test_as_kinds(batch: Kernel) -> None:
    """--as reads stdout as asked."""
    ran = batch.run("%%bacalhau --lang bash --as text\necho '{}'")
    assert (ran.value, ran.stream("stdout")) == (None, "{}\n")
    assert batch.run("%%bacalhau --lang bash --as text -o said\necho '{}'").error is None
    assert batch.run("said").value == "'{}\\n'"
    assert batch.run("%%bacalhau --lang bash --as bytes\nprintf '\\xff\\x00'").value == "b'\\xff\\x00'"
    assert batch.run("%%bacalhau --lang bash --as jsonl\nprintf '1\\n2\\n'").value == "[1, 2]"
    ran = batch.run("%%bacalhau --lang bash --as frame -o t\nprintf 'a,b\\n1,2\\n'")
    assert ran.error is None, ran.text
    assert batch.run("t.to_dict('list')").value == "{'a': [1], 'b': [2]}"


def test_several_names_from_one_object(batch: Kernel) -> None:
    """Several names take a JSON object with exactly these keys; another one is refused."""
    assert batch.run('%%bacalhau --lang bash -o a,b\necho \'{"a": 1, "b": 2}\'').error is None
    assert batch.run("(a, b)").value == "(1, 2)"
    ran = batch.run('%%bacalhau --lang bash -o a,b\necho begin\necho \'{"a": 1, "b": 2}\'')
    assert "Print that object alone, and all else to stderr" in ran.text
    ran = batch.run("%%bacalhau --lang bash -o a,b\necho '{\"a\": 1}'")
    assert ran.error is not None
    assert ran.error[0] == "MissingResultError"


def test_stdout_into_a_name(batch: Kernel) -> None:
    """--stdout and --stderr put the text into variables instead of showing it."""
    ran = batch.run("%%bacalhau --stdout out --stderr err\nimport sys\nprint('o')\nprint('e', file=sys.stderr)")
    assert (ran.stream("stdout"), ran.stream("stderr")) == ("", "")
    assert batch.run("(out, err)").value == "('o\\n', 'e\\n')"


def test_files(batch: Kernel, tmp_path: object) -> None:
    """What the cell wrote to outputs/ lands in --files."""
    ran = batch.run(
        f"%%bacalhau --files {tmp_path}/got\nimport os\nos.makedirs('outputs/sub')\nopen('outputs/sub/a.txt', 'w').write('hi');"
    )
    assert ran.error is None, ran.text
    assert batch.run(f"open('{tmp_path}/got/sub/a.txt').read()").value == "'hi'"
    assert batch.run("str(_bacalhau.files)").value == f"'{tmp_path}/got'"


def test_arguments_and_world(batch: Kernel) -> None:
    """Arguments after --, a fresh working folder with inputs and outputs, closed stdin, __main__, await."""
    code = "import sys, os\nimport asyncio\nawait asyncio.sleep(0)\n[sys.argv[1:], sorted(os.listdir('.')), __name__]"
    assert batch.run(f"%%bacalhau -- --lang 'x y'\n{code}").value == "[['--lang', 'x y'], ['inputs', 'outputs'], '__main__']"
    ran = batch.run("%%bacalhau\ninput()")
    assert ran.error is not None
    assert "stdin" in ran.text


def test_environment(batch: Kernel) -> None:
    """-e sets the job's variables and nothing else of this machine's comes along."""
    batch.run("import os; os.environ['LEAK'] = 'leaked'")
    ran = batch.run(
        "%%bacalhau -e COLOUR='deep blue' -e N=1\nimport os\n[os.environ.get('COLOUR'), os.environ.get('N'), os.environ.get('LEAK')]"
    )
    assert ran.value == "['deep blue', '1', None]"


def test_timeout_keeps_what_was_printed(batch: Kernel) -> None:
    """--timeout ends the cell from its first line on; what it printed before is shown."""
    ran = batch.run("%%bacalhau --timeout 1s\nimport time\nprint('first', flush=True)\ntime.sleep(60)")
    assert ran.error is not None
    assert ran.error[0] == "JobTimedOutError"
    assert ran.stream("stdout") == "first\n"
    assert ran.text.startswith("bacalhau: timed out\n")
    assert batch.run("import sys; sys.last_value.phase, sys.last_value.limit").value == "('cell', 1.0)"


def test_dry_run_sends_nothing(batch: Kernel) -> None:
    """-n shows the spec as YAML, with the archive shortened, and sends nothing."""
    before = batch.run("len(get_ipython().run_line_magic('bacalhau', 'jobs'))").value
    ran = batch.run("%%bacalhau -n --cpu 2\n1")
    assert "Type: docker" in ran.text
    assert "CPU: '2'" in ran.text
    assert batch.run("len(get_ipython().run_line_magic('bacalhau', 'jobs'))").value == before


def test_background(batch: Kernel) -> None:
    """--bg returns a job at once; its name is a marker until it is waited for."""
    ran = batch.run("%%bacalhau --bg --job later -o z\nimport time\ntime.sleep(0.5)\nz = 5")
    assert ran.error is None, ran.text
    assert ran.outputs[0]["content"]["data"]["text/plain"] == "bacalhau: submitted"
    assert ran.value == "RemoteJob(python)"
    used = batch.run("z + 1")
    assert used.error is not None
    assert used.error[0] == "ResultError"
    assert batch.run("%bacalhau wait last").error is None
    assert batch.run("z").value == "5"
    assert batch.run("later.result()").value == "{'z': 5}"


def test_braces_stand_for_globals(batch: Kernel) -> None:
    """{name} as a whole value is a global's; the cell's own text is never touched."""
    batch.run("limit = 7\nwho = 'ann'")
    ran = batch.run("%%bacalhau --timeout {limit} --name {who} -e WHO={who}\nimport os\n'{limit} $who', os.environ['WHO']")
    assert ran.value == "('{limit} $who', '{who}')"
    assert batch.run("_bacalhau.request.options.timeout, _bacalhau.name").value == "(7.0, 'ann')"


def test_nested_magics(batch: Kernel) -> None:
    """%%time and %%capture around it work, by the blocking path."""
    assert batch.run("%%capture got\n%%bacalhau -q\nprint('inside')").error is None
    assert batch.run("got.stdout").value == "'inside\\n'"
    assert "Wall time" in batch.run("%%time\n%%bacalhau -q\n1").text


def test_interrupt_stops_the_job(live: Kernel) -> None:
    """An interrupt stops the job on the node and raises JobInterruptedError."""
    request = live.send("%%bacalhau\nimport time\ntime.sleep(60)")
    live.until(lambda card: card.get("title") == "Running")
    live.manager.interrupt_kernel()
    ran = live.collect(request, 20)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"
    assert "stopped" in live.run("%bacalhau show last").text


def test_interrupt_works_on_the_blocking_path(live: Kernel) -> None:
    """The same where the cell can't be awaited."""
    live.run("%autoawait False")
    request = live.send("%%bacalhau\nimport time\ntime.sleep(60)")
    live.until(lambda card: card.get("title") == "Running")
    live.manager.interrupt_kernel()
    ran = live.collect(request, 20)
    assert ran.error is not None
    assert ran.error[0] == "JobInterruptedError"


def test_live_card_is_replaced(live: Kernel) -> None:
    """In a live front end a card is shown first, and its place holds the bundle in the end."""
    ran = live.run("%%bacalhau\n1")
    assert ran.error is None, ran.text
    kinds = [output["type"] for output in ran.outputs]
    assert kinds[0] == "display_data"
    assert "application/vnd.jupyter.widget-view+json" in ran.outputs[0]["content"]["data"]
    last = [output for output in ran.outputs if output["type"] == "update_display_data"][-1]
    assert last["content"]["data"]["text/plain"] == "bacalhau: completed"
    assert last["content"]["metadata"]["bacalhau"]["job"].startswith("j-")


def test_restart_and_attach(live: Kernel) -> None:
    """After a restart the same job is followed to its value, with no second submission."""
    live.run("%%bacalhau --bg -o x\nimport time\ntime.sleep(3)\nx = 'late'")
    job = live.run("_bacalhau.id").value
    live.restart()
    ran = live.run(f"%bacalhau attach {job.strip(chr(39))} -o x")  # type: ignore[union-attr]
    assert ran.error is None, ran.text
    assert live.run("x").value == "'late'"


def test_unload(live: Kernel) -> None:
    """%unload_ext takes both magics out, and loading again brings them back."""
    live.run("%unload_ext bacalhau_magic")
    assert live.run("%%bacalhau\n1").error is not None
    live.run("%load_ext bacalhau_magic")
    assert live.run("%%bacalhau -q --progress none\n1").value == "1"


def test_a_failed_cell_is_no_completed_job(batch: Kernel) -> None:
    """A job whose cell raised is "failed" in the table and in its description, whatever its server calls it."""
    assert batch.run("%%bacalhau --name breaks --no-raise-error\n1 / 0").error is None
    batch.run("jobs = %bacalhau jobs")
    assert batch.run("[row['state'] for row in jobs if row['name'].startswith('breaks')]").value == "['failed']"
    batch.run("shown = %bacalhau show last")
    assert batch.run("shown.facts['state'], shown.facts['exit code']").value == "('failed', '1')"


def test_relative_paths_are_the_kernels(shell: Kernel, tmp_path: Path) -> None:
    """After os.chdir a cell's files come from where the kernel is now, and go there: as in a local cell."""
    shell.run(f"import os; before = os.getcwd(); os.chdir({str(tmp_path)!r}); open('moved.txt', 'w').write('here')")
    try:
        ran = shell.run("%%bacalhau -i ./moved.txt --files got --lang bash\ncp inputs/moved.txt outputs/back.txt")
        assert ran.error is None, ran.text
        assert (tmp_path / "got" / "back.txt").read_text() == "here"
    finally:
        shell.run("os.chdir(before)")
