"""``python -m nwbrecon.cli``."""

from nwbrecon.cli.app import main

main()
