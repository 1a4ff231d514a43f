"""`python -m kitelake`: the command line."""

from kitelake.cli.app import main

main()
