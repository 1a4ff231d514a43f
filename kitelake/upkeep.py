"""The upkeep process: `python -m kitelake.upkeep`, started by the service for the work that may take an hour.

It seals days, archives and removes what is old, each as its settings say, one after the other. Settings come as one
line of JSON on standard input; for each thing that it has done it says a line of JSON on standard output. It ends at
once when its standard input ends, which is how it learns that the service has died, or that room on the disk is short:
whatever it does is safe to stop at any moment, and is done again by the next.
"""
