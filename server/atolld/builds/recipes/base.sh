# Runs inside the new Debian, as root: what makes it the root `base`. Its text is part of the root's key.
set -eu

useradd --uid 1000 --create-home --shell /bin/bash user
echo 'user ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/user
chmod 0440 /etc/sudoers.d/user
mkdir -p /code
chmod -R a+rwX /usr/local /code

# Every command of a sandbox is a login shell, so logging in starts no process: no id, no run-parts, no mesg.
cat > /etc/profile <<'PROFILE'
: "${PATH:=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
export PATH
for _file in /etc/profile.d/*.sh; do
  [ -r "$_file" ] && . "$_file"
done
unset _file
if [ -n "${PS1-}" ] && [ -n "${BASH-}" ] && [ -f /etc/bash.bashrc ]; then
  . /etc/bash.bashrc
fi
PROFILE
cat > /etc/profile.d/local-bin.sh <<'PROFILE'
case ":$PATH:" in
  *":$HOME/.local/bin:"*) ;;
  *) PATH="$HOME/.local/bin:$PATH" ;;
esac
PROFILE
for home in /root /etc/skel /home/user; do
  cat > "$home/.profile" <<'PROFILE'
if [ -n "${BASH-}" ] && [ -f ~/.bashrc ]; then
  . ~/.bashrc
fi
PROFILE
done
chown user:user /home/user/.profile

# A sandbox is thrown away: pip may write where it likes, without a virtual environment.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED

echo sandbox > /etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' > /etc/hosts
: > /etc/resolv.conf
: > /etc/machine-id
# The build's own apt options may hold the host's proxy.
rm -rf /etc/apt/apt.conf.d/99mmdebstrap /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt /root/.cache
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt
