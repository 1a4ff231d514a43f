"""`python -m ingest.simulator`."""

from ingest.simulator.run import main

raise SystemExit(main())
