#!/usr/bin/env bash
# Installs the Debian packages that pods and their capture need, where they are missing.
set -euo pipefail

missing=()
want() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || missing+=("$2")
}
PATH="$PATH:/usr/sbin:/sbin"
want ip iproute2
want iptables iptables
want nft nftables
want setpriv util-linux
want curl curl
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing Debian packages: ${missing[*]} (install them as root)" >&2
    exit 1
fi
echo "== installing Debian packages: ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
