# debootstrap.sh TREE SUITE INPUTS RECIPE: a Debian in TREE on a machine without mmdebstrap, then RECIPE inside it.
# The first line of INPUTS/sources.list, when there is one, names the mirror. Started in namespaces of its own.
set -eu
tree=$1 suite=$2 inputs=$3 recipe=$4

mirror=$(sed -n '1s/^deb \([^ ]*\) .*/\1/p' "$inputs/sources.list")
debootstrap --force-check-gpg --variant=minbase "$suite" "$tree" $mirror
if [ -n "$mirror" ]; then
  cp "$inputs/sources.list" "$tree/etc/apt/sources.list"
fi
cp "$inputs/dpkg.cfg" "$tree/etc/dpkg/dpkg.cfg.d/99atoll"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=0755 tmpfs "$tree/run"
mkdir "$tree/run/atoll"
mount --bind "$inputs" "$tree/run/atoll"
cp "$inputs/resolv.conf" "$tree/etc/resolv.conf"
chroot "$tree" sh -c 'apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends $ATOLL_PACKAGES'
chroot "$tree" sh < "$recipe"
