#!/usr/bin/env bash
# Writes requirements/*.txt: what each image installs, every file by its hash. Called by `make lock`.
#
# constraints.txt chooses the versions. torch is left out, because its hash depends on its build; what it needs beside
# a GPU's libraries is in requirements/torch.in.
set -euo pipefail
cd "$(dirname "$0")/.."

lock() { # NAME WHAT…
  .venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_36 \
    --custom-compile-command "make lock" -c constraints.txt --excludes <(echo torch) -o "requirements/$1.txt" "${@:2}"
}
lock gateway pyproject.toml --extra gateway
lock registry pyproject.toml --extra registry --extra postgres
lock scheduler pyproject.toml --extra scheduler
lock worker pyproject.toml --extra worker requirements/torch.in
lock build --group pyproject.toml:image
