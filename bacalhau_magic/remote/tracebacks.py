"""A cell's exception as facts: its traceback on the cell's own lines, its causes, the parts of a group; loaded when there is one."""

_GROUPED, _GROUPS = 1000, 20  # exceptions of a group that are told one by one, and groups in groups
_RUNNER = "_bacalhau_runner"  # whose frames are not the cell's


def described(problem, lines):
    """The exception as facts, its traceback on the cell's own lines and without frames of ours."""
    import linecache
    import traceback

    lines.fill(linecache)  # once more: the cell may have cleared it
    _trim(problem, lines.filename, set())
    kind = type(problem)
    try:
        told = "".join(traceback.format_exception(kind, problem, problem.__traceback__))
    except Exception:
        told = "%s (its traceback can't be shown)\n" % kind.__name__
    try:
        evalue = str(problem)
    except Exception:
        evalue = "<unprintable %s>" % kind.__name__
    facts = {"ename": kind.__name__, "evalue": evalue, "traceback": told, "mro": _mro(kind)}
    group = _group(problem, [_GROUPED])
    return dict(facts, exceptions=group) if group else facts


def _mro(kind):
    return [base.__name__ for base in kind.__mro__ if base is not object]


def _group(problem, left, depth=0):
    """The exceptions in a group as facts, up to so many (`left`, a list of one number) and so deep; empty for another exception."""
    import traceback

    found = []
    if depth > _GROUPS or "BaseExceptionGroup" not in _mro(type(problem)):
        return found
    for error in getattr(problem, "exceptions", ()):
        left[0] -= 1
        if left[0] < 0:
            break
        try:
            told, evalue = "".join(traceback.format_exception(type(error), error, error.__traceback__)), str(error)
        except Exception:
            told = evalue = "<unprintable %s>" % type(error).__name__
        facts = {"ename": type(error).__name__, "evalue": evalue, "traceback": told, "mro": _mro(type(error))}
        inner = _group(error, left, depth + 1)
        found.append(dict(facts, exceptions=inner) if inner else facts)
    return found


def _trim(problem, filename, seen):
    """Cuts the frames above the cell off an exception and all that it carries."""
    waiting = [problem]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        frame = error.__traceback__
        while frame is not None and frame.tb_frame.f_code.co_filename != filename:
            frame = frame.tb_next
        if frame is None:
            frame = error.__traceback__
            while frame is not None and frame.tb_frame.f_globals.get("__name__") == _RUNNER:
                frame = frame.tb_next
        under = frame
        while under is not None and under.tb_next is not None:
            if under.tb_next.tb_frame.f_globals.get("__name__") == _RUNNER:
                under.tb_next = None  # input()
            under = under.tb_next
        try:
            error.__traceback__ = frame
            waiting += [error.__cause__, error.__context__]
            waiting += getattr(error, "exceptions", None) or ()
        except Exception:
            continue
