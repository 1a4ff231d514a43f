"""What the server of `tests.support.forks` has loaded: the service with all its parts, simulator, shell, and works."""

import warnings
from importlib import import_module

from storage.startup import leave_out_needless

leave_out_needless()
for module in (
    *("ingest.simulator.run", "kitelake.cli.app", "kitelake.lake", "kitelake.service.runner"),
    *("kitelake.shell.loop", "kitelake.shell.prompt", "tests.support.works"),
    *("holidays.financial", "httpcore", "anyio._backends._asyncio"),  # what these load when they are first used
    *("kitelake.processes.report", "kitelake.processes.upkeep", "kitelake.processes.writer"),
):
    import_module(module)

# And what they read then: the authorities of HTTPS, and each kind of notification.
import_module("ingest.accounts").tls_context()
with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    import_module("apprise").Apprise.instantiate("json://localhost")
