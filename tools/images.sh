#!/usr/bin/env bash
# Builds the images pilot and proxyv2: tools/images.sh HUB TAG. With docker or buildah where one works; else OCI archives
# in build/images, which `ctr images import`, `docker load` and `kind load image-archive` read.
set -euo pipefail
cd "$(dirname "$0")/.."
hub=$1 tag=$2

if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
    builder=(docker build)
elif command -v buildah >/dev/null; then
    builder=(buildah build)
else
    echo "== neither a docker daemon nor buildah here: writing OCI archives into build/images"
    exec .venv/bin/python -m e2e.harness.images build/images "$hub" "$tag"
fi
for image in pilot proxyv2; do
    echo "== building $hub/$image:$tag with ${builder[0]}"
    "${builder[@]}" -f images/Dockerfile --target "$image" -t "$hub/$image:$tag" .
done
