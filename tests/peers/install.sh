#!/bin/sh
# Installs nginx, HAProxy and Caddy from Debian's packages, for `make peers-servers`: the programs
# only. They are not started, now or at boot: the tests start their own, on loopback.
set -eu
PATH=$PATH:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d

missing=""
for name in nginx haproxy caddy; do
    command -v "$name" >/dev/null || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "NOT INSTALLED:$missing. Root and apt-get are needed to install them: their tests will fail"
    exit 0
fi
echo "Installing$missing ..."
if [ ! -e "$policy" ]; then # a package that is being installed starts its service, unless told not to
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" >/dev/null; }
if get update && get install --no-install-recommends $missing; then
    if command -v systemctl >/dev/null; then systemctl --quiet disable $missing 2>/dev/null || true; fi
else
    echo "NOT INSTALLED:$missing. apt-get failed: their tests will fail"
fi
