"""`python -m kitelake`: the command line."""

from kitelake.cli import main

main()
