#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# QEMU is killed while its guest writes records and reads: what had been flushed is in the image, and
# the next QEMU at the same socket finds a disk that works.
# shellcheck source=tests/peer/peer.sh
. "$(dirname "$0")/peer.sh"

truncate -s 64M "$work/disk.img"
serve "nvme,image=$work/disk.img" --socket "$work/disk"
mkfifo "$work/killed.console"
start killed shared 'viaduct.job=killtest viaduct.readers=2' "$work/disk"
last=
while read -r word n; do
	if [ "$word" = flushed ]; then
		last=$(echo "$n" | tr -d '\r')
		[ "$last" -lt 20 ] || break
	fi
done <"$work/killed.console"
kill -KILL "$vm"
wait "$vm" || :
vms=
[ -n "$last" ] || fail "no record was flushed: $(cat "$work/killed.qemu" "$work/serve.log")"
n=0
while [ $n -le "$last" ]; do
	[ "$(dd if="$work/disk.img" bs=4096 skip=$n count=1 2>/dev/null | tr -d '\0')" = \
		"viaduct record $n" ] || fail "record $n had been flushed, and is not in the image"
	n=$((n + 1))
done

start after shared viaduct.job=peer "$work/disk"
finish after "$vm"
stop_serving
check_disk after nvme0 "$work/disk.img"
