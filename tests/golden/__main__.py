"""Entry point of `python -m tests.golden`."""

from tests.golden import main

main()
