#!/usr/bin/env bash
# Makes .venv from the hashed lock. Needs Python 3.11 or newer with its venv module; installs the latter on Debian.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed; $(python3 --version 2>&1) found" >&2
    exit 1
fi
if ! python3 -c 'import ensurepip' 2>/dev/null; then
    echo "== installing Debian package python3-venv"
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
fi
[ -x .venv/bin/python ] || python3 -m venv .venv
# The lock is whole, so nothing is resolved: pip before 23.3 would look for the newest release of what is asked for with an
# extra, and refuse it for want of a hash.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
.venv/bin/python -m pip --disable-pip-version-check check >/dev/null
# The project's own programs (istiod, pilot-agent, meshnode), from this checkout.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
