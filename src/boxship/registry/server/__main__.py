"""``python -m boxship.registry.server serve``: the registry as a program of its own."""

import sys

from boxship.registry.server.main import main

sys.exit(main(sys.argv[1:]))
