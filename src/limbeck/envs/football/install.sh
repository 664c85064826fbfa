#!/usr/bin/env bash
# Builds and installs Google Research Football (Apache-2.0), unchanged, for one Python:
#
#     bash install.sh [PYTHON]            by default the python3 of this shell; five minutes on two cores, 400 MB
#
# It is meant to be run once, on Debian 12 or a relative of it, with a Python of the version that the system's Boost is made for
# (3.11 on Debian 12). Elsewhere install the libraries below by hand, and run it with SKIP_SYSTEM=1.
set -euo pipefail

PYTHON=$(command -v "${1:-python3}") || { echo "there is no ${1:-python3}; give the path of a Python" >&2; exit 1; }
PACKAGES=(
  cmake make g++
  libsdl2-dev libsdl2-image-dev libsdl2-ttf-dev libsdl2-gfx-dev
  libboost-python-dev libboost-thread-dev libboost-system-dev libboost-filesystem-dev
  libgl1-mesa-dev libegl1-mesa-dev
)

if [ -z "${SKIP_SYSTEM:-}" ]; then
  command -v apt-get >/dev/null || { echo "there is no apt-get; install what these are called here, and set SKIP_SYSTEM=1: ${PACKAGES[*]}" >&2; exit 1; }
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update
  "${root[@]}" apt-get install --yes --no-install-recommends "${PACKAGES[@]}"
fi

# The game's build asks the `python3` of the shell for psutil, outside of pip's isolation; it needs six without saying so.
PATH="$(dirname "$PYTHON"):$PATH"
"$PYTHON" -m pip install setuptools wheel psutil six
"$PYTHON" -m pip install --no-build-isolation gfootball==2.10.2
"$PYTHON" -c 'import gfootball.env, gfootball_engine; print("Google Research Football is there:", gfootball_engine.__file__)'
