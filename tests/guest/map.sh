#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# `viaduct map` of a running Linux guest: by name and by process id it finds the slots, what is mapped
# and used, the devices' BARs and the reasons for traps; and the guest runs on.
. "$(dirname "$0")/guest.sh"

XDG_RUNTIME_DIR=$work
export XDG_RUNTIME_DIR

# Reads the console up to a line that matches the pattern $1.
expect() {
	while IFS= read -r line <&3; do
		line=$(printf '%s' "$line" | tr -d '\r')
		echo "$line" >>"$work/map.console"
		# shellcheck disable=SC2254 # a pattern it is
		case $line in $1) return ;; esac
	done
	status=
	fail_boot map "the console never said '$1'"
}

type_line() { printf '%s\r' "$1" >&4; }

mkfifo "$work/keys"
exec 4<>"$work/keys"
truncate -s 64M "$work/disk.img"
start map viaduct.job=shell --name map-test --device "nvme,image=$work/disk.img" --device display \
	<"$work/keys"
expect "*'exit' powers the guest off."
type_line "seq 1 500 >/dev/tty1; dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8; echo 'use'd"
expect used

"$viaduct" map map-test >"$work/by-name" || fail 'map by name'
"$viaduct" map "$vm" >"$work/by-pid" || fail 'map by process id'
cat "$work/by-name"
for table in by-name by-pid; do
	grep -q '^000080000000-00008fffffff   256M ram    *ram ' "$work/$table" || fail "$table: no RAM"
	grep -q 'device  display' "$work/$table" || fail "$table: the video memory is not direct"
	grep -q '00:01.0 nvme' "$work/$table" || fail "$table: no NVMe controller"
	grep -q 'trapped: the page holds the MSI-X table' "$work/$table" || fail "$table: no reason"
done

"$viaduct" map --json map-test >"$work/map.json" || fail 'map --json'
"$top/tools/json-lines" "$work/map.json" >"$work/lines"
# slot NAME KIND FIELD: of the first slot of that name and kind
slot() {
	index=$(sed -n "s/^slots\.\([0-9]*\)\.name $1\$/\1/p" "$work/lines" | while read -r i; do
		grep -q "^slots\.$i\.kind $2\$" "$work/lines" && echo "$i" && break
	done)
	sed -n "s/^slots\.$index\.$3 //p" "$work/lines"
}
[ "$(slot ram ram resident)" -gt 20000000 ] || fail 'Linux has touched more memory than that'
[ "$(slot ram ram leaves_2m)" -gt 10 ] || fail 'memory is not mapped by large leaves'
[ "$(slot ram ram young)" -gt 0 ] || fail 'memory is used'
[ "$(slot ram ram dirty)" -gt 0 ] || fail 'memory is written to'
[ "$(slot display device resident)" -ge 3000000 ] || fail 'a screen was drawn'
[ "$(sed -n 's/^mmu.pins //p' "$work/lines")" -gt 0 ] || fail 'the disk read by DMA'

"$viaduct" map --svg "$work/map.svg" map-test || fail 'map --svg'
grep -q '^</svg>$' "$work/map.svg" || fail 'the picture has no end'
if command -v rsvg-convert >/dev/null; then
	rsvg-convert "$work/map.svg" -o "$work/map.png" || fail 'the picture cannot be drawn'
fi

# shellcheck disable=SC2034 # only counts
for i in 1 2 3 4 5 6 7 8 9 10; do
	"$viaduct" map map-test >/dev/null || fail 'map again'
done
type_line "echo answer \$((6 * 7))"
expect 'answer 42'
type_line exit
status=0
cat <&3 >>"$work/map.console"
wait "$vm" || status=$?
vm=
[ $status = 0 ] || fail_boot map 'exit of the shell did not power the guest off'
