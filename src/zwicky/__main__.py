"""`python -m zwicky` is `zwicky`."""

from zwicky.cli import main

main()
