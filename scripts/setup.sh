#!/usr/bin/env bash
# Makes the environment .venv with everything that the project, its demo, its tests and its checks need.
#
# Usage: setup.sh            called by make; needs no root. What the machine lacks is named with the command that installs it.
#   PYTHON=/path/to/python   another interpreter (3.11 or later)
#   TORCH_INDEX=URL          package index for torch alone, e.g. PyTorch's own index of CPU builds (smaller by gigabytes)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv

say() { printf '\033[1m%s\033[0m\n' "$*"; }

# Prints the first interpreter of the right version.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# Ends with the command that installs a Debian, Fedora or macOS package of that kind: missing WHAT DEB RPM BREW
missing() {
  echo "set-up: $1 is missing. Install it with:" >&2
  if command -v apt-get >/dev/null; then echo "  sudo apt-get install $2" >&2
  elif command -v dnf >/dev/null; then echo "  sudo dnf install $3" >&2
  elif command -v brew >/dev/null; then echo "  brew install $4" >&2
  else echo "  your system's package of $2" >&2; fi
  exit 1
}

python=$(find_python) || missing "Python 3.11 or later" python3.11 python3.11 python@3.11
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  missing "the venv module of $python" "python$version-venv" "python$version" "python@$version"
"$python" scripts/shared_libpython.py ||
  missing "the shared library of $python, which the gateway's Envoy loads," \
    "libpython$version" "python$version-libs" "python@$version"

if [ ! -x $venv/bin/python ]; then
  say "set-up 1/4: environment $venv with $python"
  rm -rf $venv
  "$python" -m venv $venv
fi
pip() { $venv/bin/python -m pip --disable-pip-version-check "$@"; }

say "set-up 2/4: pip"                       # an older one does not know dependency groups
pip install -q 'pip>=25.1'
say "set-up 3/4: torch (the largest part)"  # first and alone, so that nothing else chooses its version or index
pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
say "set-up 4/4: infermesh and what it needs"
pip install -q --progress-bar on -c constraints.txt -e '.[all,postgres,bench]' \
  --group demo --group test --group check --group proto
touch $venv/.ready
say "set-up: done"
