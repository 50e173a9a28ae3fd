# image.sh LAYERS MOUNTPOINT OUT: one EROFS image of LAYERS (an overlay's `lowerdir`: topmost first).
# Started in namespaces of its own (`tools.isolated`): the mount ends with this process.
# `noinline_data`: gVisor maps files straight from the image and cannot map inlined tails ("bad address" on exec).
set -eu
mount -t overlay atoll-image -o "ro,lowerdir=$1" "$2"
exec mkfs.erofs --quiet -x-1 -Enoinline_data "$3" "$2"
