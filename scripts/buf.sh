#!/usr/bin/env bash
# buf lint over our protos, and buf breaking against the last release (tag) where there is one.
# buf comes from the PATH, or from npm for this run; without either the step is left out and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v buf >/dev/null; then buf=(buf)
elif command -v npx >/dev/null && npx --yes @bufbuild/buf@1.75.0 --version >/dev/null 2>&1; then buf=(npx --yes @bufbuild/buf@1.75.0)
else
  echo "proto-lint: skipped, there is neither buf nor npm"
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
.venv/bin/python scripts/gen_protos.py --image "$scratch/now.binpb"
"${buf[@]}" lint "$scratch/now.binpb" --path infermesh/v1
release=$(git describe --tags --abbrev=0 2>/dev/null) || { echo "proto-lint: ok (no release yet to compare with)"; exit 0; }
mkdir "$scratch/released"
git archive "$release" protos | tar -x -C "$scratch/released"
.venv/bin/python scripts/gen_protos.py --image "$scratch/then.binpb" --protos "$scratch/released/protos"
"${buf[@]}" breaking "$scratch/now.binpb" --against "$scratch/then.binpb" --path infermesh
echo "proto-lint: ok, nothing broken since $release"
