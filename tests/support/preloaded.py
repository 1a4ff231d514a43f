"""What the server of `tests.support.forks` has loaded: the service with all its parts, simulator, shell, and works."""

from importlib import import_module

from storage.startup import leave_out_needless

leave_out_needless()
for module in (
    *("ingest.simulator.run", "kitelake.cli.app", "kitelake.lake", "kitelake.service.runner"),
    *("kitelake.shell.loop", "kitelake.shell.prompt", "tests.support.works"),
    *("holidays.financial", "httpcore"),  # what these load when they are first used
):
    import_module(module)
