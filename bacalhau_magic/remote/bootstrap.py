"""Starts the wrapper: `python -u .bacalhau/bootstrap.py OUTPUTS`.

Its other modules lie beside it, or, in a job for the very Python that packed it, all in one file with their bytecode:
creating files and compiling take longer than a small cell.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PACKED = {}  # name -> (source, magic number of the bytecode's Python, bytecode)


def load(name):
    """One of the wrapper's modules, without a path that the cell's own imports could meet."""
    full = "_bacalhau_" + name
    if full not in sys.modules:
        module = type(sys)(full)
        module.__file__ = os.path.join(HERE, name + ".py")
        module.load = load
        code = _code(name, module.__file__)
        sys.modules[full] = module
        exec(code, module.__dict__)
    return sys.modules[full]


def _code(name, place):
    if not PACKED and os.path.exists(os.path.join(HERE, "modules.bin")):
        import marshal

        with open(os.path.join(HERE, "modules.bin"), "rb") as file:
            PACKED.update(marshal.load(file))
    if name in PACKED:
        source, magic, code = PACKED[name]
        if magic == sys.modules["_frozen_importlib_external"].MAGIC_NUMBER:
            import marshal

            return marshal.loads(code)
    else:
        with open(place, "rb") as file:
            source = file.read()
    return compile(source, place, "exec", dont_inherit=True)


if __name__ == "__main__":
    # No clean-up of a large interpreter: all is written, nobody else looks.
    os._exit(load("supervisor").main())
