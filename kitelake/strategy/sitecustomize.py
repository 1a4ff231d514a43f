"""What each Python of a guarded strategy runs before anything else, since its folder is first in PYTHONPATH: the guard.

Python imports the first `sitecustomize` that it finds, so the one that this hides is run afterwards. A Python in which
the guard does not start ends at once: Python itself would only print that, and go on.
"""

import os
import sys
from pathlib import Path

if __name__ == "sitecustomize":
    folder = str(Path(__file__).resolve().parent)
    # What else lies beside this file is not to be found by its bare name.
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    try:
        from importlib.machinery import PathFinder
        from importlib.util import module_from_spec, spec_from_file_location

        spec = spec_from_file_location("kitelake_replay_guard", str(Path(folder, "guard.py")))
        assert spec is not None
        assert spec.loader is not None
        guard = sys.modules[spec.name] = module_from_spec(spec)
        spec.loader.exec_module(guard)
        guard.install()
    except BaseException as error:
        os.write(2, f"kitelake replay --run: the guard did not start, so nothing does: {error!r}\n".encode())
        os._exit(70)

    hidden = PathFinder.find_spec("sitecustomize")
    if hidden is not None and hidden.loader is not None:
        module = sys.modules["sitecustomize"] = module_from_spec(hidden)
        hidden.loader.exec_module(module)
