"""`python -m ingest.simulator`: a simulated broker from settings in JSON, for tests and other programs."""

import sys

from storage.startup import leave_out_needless

leave_out_needless()

from ingest.simulator.run import main  # noqa: E402 (what it imports would import what is left out)

sys.exit(main())
