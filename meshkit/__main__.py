"""`python -m meshkit` is the command `meshkit`."""

import sys

from meshkit.cli.main import main

sys.exit(main())
