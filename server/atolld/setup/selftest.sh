# selftest.sh RUNSC DIRECTORY: starts a tiny root, takes a checkpoint of it, restores that, and asks whether it runs.
# DIRECTORY holds root.erofs and bundle/config.json. Started in namespaces of its own: its sandboxes die with it.
set -eu
runsc() { "$binary" --root "$directory/state" --network=none --ignore-cgroups "$@" < "$directory/nothing" >> "$directory/log" 2>&1; }
expect_running() { "$binary" --root "$directory/state" state "$1" | grep -q '"status": "running"'; }
binary=$1 directory=$2
: > "$directory/nothing" # not /dev/null: runsc gives what it reads from to the user nobody
trap 'cat "$directory/log"' EXIT

runsc run --detach --bundle "$directory/bundle" first
expect_running first
mkdir "$directory/image"
runsc checkpoint --compression=none --image-path "$directory/image" first
test -s "$directory/image/checkpoint.img"
runsc delete --force first
runsc restore --detach --bundle "$directory/bundle" --image-path "$directory/image" second
expect_running second
runsc delete --force second
