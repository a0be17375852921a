"""`python -m medcli` is `med`."""

from medcli.cli.app import main

main()
