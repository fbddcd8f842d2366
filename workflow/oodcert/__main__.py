"""`python -m oodcert` is the command line."""

import sys

from oodcert.cli.main import main

sys.exit(main())
