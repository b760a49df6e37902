#!/usr/bin/env bash
# buf lint over our protos, and buf breaking against what was released last; before the first release, against main.
# buf comes from the PATH, or from npm for this run. Without either, protoc alone looks at the files, and it is said.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
$python scripts/gen_protos.py --image "$scratch/now.binpb"   # fails on anything that protoc refuses

version=1.75.0
if command -v buf >/dev/null; then buf=(buf)
elif command -v npx >/dev/null && npx --yes "@bufbuild/buf@$version" --version >/dev/null 2>&1; then
  buf=(npx --yes "@bufbuild/buf@$version")
else
  {
    echo "proto-lint: protoc accepts the files; style and compatibility were NOT checked, because buf is missing."
    if command -v npx >/dev/null; then echo "  npm could not fetch it: is the registry reachable?  npx @bufbuild/buf@$version --version"
    elif command -v apt-get >/dev/null; then echo "  Install npm, which fetches it:  sudo apt-get install npm"
    elif command -v dnf >/dev/null; then echo "  Install npm, which fetches it:  sudo dnf install npm"
    else echo "  Install it:  brew install bufbuild/buf/buf"; fi
  } >&2
  exit 0
fi
"${buf[@]}" lint "$scratch/now.binpb" --path infermesh/v1

# The state that must not be broken: the last release; before that main, seen from a branch, or main before its last commit.
base=$(git describe --tags --abbrev=0 2>/dev/null) ||
  base=$(git merge-base HEAD main 2>/dev/null) || base=
if [ -n "$base" ] && [ "$(git rev-parse "$base^{commit}")" = "$(git rev-parse HEAD)" ] && git diff --quiet HEAD -- protos; then
  base=$(git rev-parse --verify --quiet HEAD~1) || base=
fi
if [ -z "$base" ] || ! git cat-file -e "$base:protos" 2>/dev/null; then
  echo "proto-lint: ok (nothing earlier to compare with)"
  exit 0
fi
mkdir "$scratch/before"
git archive "$base" protos | tar -x -C "$scratch/before"
$python scripts/gen_protos.py --image "$scratch/then.binpb" --protos "$scratch/before/protos"
"${buf[@]}" breaking "$scratch/now.binpb" --against "$scratch/then.binpb" --path infermesh
echo "proto-lint: ok, nothing broken since $(git describe --tags --always "$base")"
