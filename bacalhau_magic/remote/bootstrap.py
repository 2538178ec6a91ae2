"""Starts the wrapper: `python -u .bacalhau/bootstrap.py OUTPUTS`; a job that came with bytecode for this Python uses it."""

import os
import sys


def load(name):
    """One of the modules beside this file, without a path that the cell's own imports could meet."""
    full = "_bacalhau_" + name
    if full not in sys.modules:
        loader = type(__loader__)(full, os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py"))
        module = type(sys)(full)
        module.__file__ = loader.path
        module.__loader__ = loader
        module.load = load
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            code = loader.get_code(full)
        finally:
            sys.dont_write_bytecode = writes
        sys.modules[full] = module
        exec(code, module.__dict__)
    return sys.modules[full]


if __name__ == "__main__":
    # No clean-up of a large interpreter: all is written, nobody else looks.
    os._exit(load("supervisor").main())
