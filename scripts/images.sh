#!/usr/bin/env bash
# Builds the four images. Called by `make images`.
#
#   BUILDER=docker         docker, podman, buildah, or any command that takes: build -t IMAGE -f FILE --target STAGE --build-arg K=V DIR
#   TAG=dev REGISTRY=      the images are [REGISTRY/]infermesh-{gateway,registry,scheduler,worker}:TAG
#   IMAGES="gateway …"     only these
#   BASE= TORCH= TORCH_INDEX=   build arguments of the Dockerfiles, where they are to differ from what is written there
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision")
for name in BASE TORCH TORCH_INDEX; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
done
for service in ${IMAGES:-gateway registry scheduler worker}; do
  image=${REGISTRY:+$REGISTRY/}infermesh-$service:${TAG:-dev}
  file=Dockerfile.gateway
  [ "$service" != worker ] || file=Dockerfile.worker
  # shellcheck disable=SC2086  # a command with its options
  ${BUILDER:-docker} build -t "$image" -f "$file" --target "$service" "${arguments[@]}" . || { echo "images: $image could not be built" >&2; exit 1; }
  echo "images: $image"
done
