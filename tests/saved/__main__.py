"""Save one folder a case with the present code: `python -m tests.saved tests/saved/0.1.0`."""

import sys
from pathlib import Path

from tests.saved import write_all

write_all(Path(sys.argv[1]))
