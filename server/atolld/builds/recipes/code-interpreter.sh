# Runs inside `base`, as root: what makes it the root `code-interpreter-v1`. Its text is part of the root's key.
# /run/atoll holds what the host lends: uv, requirements.lock, package.json and its lock, ca.crt, apt.conf.
set -eu

export DEBIAN_FRONTEND=noninteractive APT_CONFIG=/run/atoll/apt.conf
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends --option Dpkg::Options::=--force-unsafe-io $ATOLL_PACKAGES
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt

# The environment belongs to `user`: a sandbox's `pip install` needs no sudo. uv's cache lies beside it so that files
# are linked, not copied, into place.
mkdir -p /opt/python /opt/.uv
chown user:user /opt/python /opt/.uv
as_user() { setpriv --reuid user --regid user --clear-groups env HOME=/home/user UV_CACHE_DIR=/opt/.uv "$@"; }
cd /home/user
as_user python3 -m venv --without-pip /opt/python
as_user /run/atoll/uv pip install --python /opt/python/bin/python --compile-bytecode --require-hashes \
  --requirements /run/atoll/requirements.lock
rm -rf /opt/.uv

# Node.js' own module that strips types: what TypeScript needs.
mkdir -p /opt/atoll/node
cp /run/atoll/package.json /run/atoll/package-lock.json /opt/atoll/node
HOME=/tmp npm ci --prefix /opt/atoll/node --ignore-scripts --no-audit --no-fund --no-update-notifier --cache /tmp/npm

cat > /etc/profile.d/python.sh <<'PROFILE'
case ":$PATH:" in
  *:/opt/python/bin:*) ;;
  *) PATH="/opt/python/bin:$PATH" ;;
esac
PROFILE
