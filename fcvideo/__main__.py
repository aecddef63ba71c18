"""`python -m fcvideo` is the command `fcvideo`."""

from fcvideo.cli import main

main()
