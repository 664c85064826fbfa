"""Whether the game is there. Looks without importing."""

import importlib.util
import shlex
import sys
from pathlib import Path

from limbeck.errors import WorldFailed

SCRIPT = Path(__file__).with_name("install.sh")
INSTALL = f"to build and install it once, run: bash {shlex.quote(str(SCRIPT))} {shlex.quote(sys.executable)}"


def find() -> None:
    """Nothing, if the game is installed.

    Raises:
        WorldFailed: it is not.
    """
    if any(importlib.util.find_spec(name) is None for name in ("gfootball", "gfootball_engine")):
        raise WorldFailed(f"Google Research Football is not installed; {INSTALL}")
