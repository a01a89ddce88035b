#!/usr/bin/env bash
# Download the tested version of Dassl.pytorch into third_party/Dassl.pytorch. The stand-in works without it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
COMMIT=c61a1b570ac6333bd50fb5ae06aea59002fb20bb
URL="${DASSL_URL:-https://github.com/KaiyangZhou/Dassl.pytorch.git}"

if [ "$(git -C Dassl.pytorch rev-parse HEAD 2>/dev/null)" = "$COMMIT" ]; then
    echo "third_party/Dassl.pytorch is at $COMMIT already"
    exit 0
fi
[ ! -e Dassl.pytorch ] || { echo "error: third_party/Dassl.pytorch is not at $COMMIT. Remove it and run the command again" >&2; exit 2; }
partial="$(mktemp -d ./.dassl.XXXXXX)"
trap 'rm -rf "$partial"' EXIT
git -C "$partial" init --quiet
if ! git -C "$partial" fetch --quiet --depth 1 "$URL" "$COMMIT"; then
    echo "error: cannot download $URL. Check the network, or use the stand-in, which needs no download" >&2
    exit 1
fi
git -C "$partial" checkout --quiet FETCH_HEAD
chmod 755 "$partial"
mv "$partial" Dassl.pytorch
trap - EXIT
echo "third_party/Dassl.pytorch is at $COMMIT; its packages: pip install -r requirements-upstream-dassl.txt"
