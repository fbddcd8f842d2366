"""`python -m oodcert` is the command line."""

import sys

from oodcert.cli import main

sys.exit(main())
