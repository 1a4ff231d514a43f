"""What the server of `tests.support.forks` has loaded: the service with all its parts, the simulator, and works."""

from importlib import import_module

from storage.startup import leave_out_needless

leave_out_needless()
for module in ("ingest.simulator.run", "kitelake.cli.app", "kitelake.service.runner", "tests.support.works"):
    import_module(module)
