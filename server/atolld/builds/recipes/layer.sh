# layer.sh LOWER LAYER INPUTS RECIPE: runs RECIPE in a root whose changes land in LAYER/diff.
# Started in namespaces of its own (`tools.isolated`): every mount below ends with this process.
set -eu
lower=$1 layer=$2 inputs=$3 recipe=$4

mkdir -p "$layer/diff" "$layer/work" "$layer/root"
root=$layer/root
mount -t overlay atoll-layer -o "lowerdir=$lower,upperdir=$layer/diff,workdir=$layer/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/run/atoll"
mount --bind "$inputs" "$root/run/atoll"
mount --bind "$inputs/resolv.conf" "$root/etc/resolv.conf"
exec chroot "$root" sh < "$recipe"
