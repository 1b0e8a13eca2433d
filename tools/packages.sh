#!/usr/bin/env bash
# Installs the Debian packages that pods and their capture need, where they are missing; with the argument "cluster" also
# what a Kubernetes node needs and what its images are made of; with "cluster browser" also what shows the mesh page to tests,
# and what gives programs another clock.
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
if [ "${1:-}" = cluster ]; then
    want containerd containerd
    want runc runc
    want /usr/lib/cni/ptp containernetworking-plugins
    want /usr/bin/python3 python3
    want /usr/bin/curl curl
    [ -e /usr/share/ca-certificates/mozilla ] || missing+=(ca-certificates)
    ldconfig -p | grep -q 'libstdc++\.so\.6' || missing+=(libstdc++6)
fi
if [ "${2:-}" = browser ]; then
    want datefudge datefudge
    want chromium chromium
    [ -e /usr/share/fonts/truetype/dejavu ] || missing+=(fonts-dejavu-core)
fi
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing Debian packages: ${missing[*]} (install them as root)" >&2
    exit 1
fi
echo "== installing Debian packages: ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
