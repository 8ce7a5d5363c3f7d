#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Read an NVMe disk in a guest with O_DIRECT, one request at a time: 1 MiB in sequence and 4 KiB at
# random places, beside QEMU 10 with AIA on the same image (tools/peer-fetch). QEMU 7's NVMe has
# no AIA to interrupt through and stalls.
#
# usage: bench/nvme.sh [ROUNDS]    default 5; prints JSON as 'viaduct bench --json' does
# environment: VIADUCT (default build/viaduct), VIADUCT_CACHE as for tools/guest-fetch
# shellcheck source=bench/guests.sh
. "$(dirname "$0")/guests.sh"

rounds=${1:-5}
seconds=2
sequential_bytes=1048576
random_bytes=4096
cases=sequential:$sequential_bytes:1,random:$random_bytes:1

command -v riscv64-linux-gnu-gcc >/dev/null ||
	die "the guest's program needs riscv64-linux-gnu-gcc; 'tools/setup check' installs it"
riscv64-linux-gnu-gcc -O2 -static -s -o "$work/bench-nvme" "$top/tests/guest/bench-nvme.c"
"$top/tools/guest-initramfs" -o "$work/bench.cpio" --add "$work/bench-nvme" >/dev/null
head -c 256M /dev/zero | tr '\0' 'v' >"$work/disk.img"

peer=qemu10
if [ -z "$(emulator $peer)" ]; then
	note "no peer: QEMU 10 is not in the cache; tools/peer-fetch gets it"
	peer=
fi

read_disk() {
	guest "$1" "$work/bench.cpio" "viaduct.job=bench-nvme viaduct.seconds=$seconds viaduct.cases=$cases" \
		"$work/disk.img" >"$work/out" 2>&1
}

# Nanoseconds a read, from "bench-nvme: ACCESS N reads of BYTES bytes in NS ns".
read_times() {
	tr -d '\r' <"$work/out" |
		awk -v want="$1:" '/^bench-nvme: / && index($2, want) == 1 { printf "%.0f\n", $9 / $3 }'
}

round=0
while [ $round -lt "$rounds" ]; do
	for who in viaduct $peer; do
		(read_disk "$who") || die "$who: $(tail -n 1 "$work/out")"
		for access in sequential random; do
			read_times $access >>"$work/$access.$who"
		done
	done
	round=$((round + 1))
done

# rates FILE BYTES PREFIX: the median as MiB/s and as reads a second
rates() {
	sort -n "$1" | awk -v bytes="$2" -v prefix="$3" '
		{ time[NR] = $1 }
		END {
			median = time[int((NR + 1) / 2)]
			printf ", \"%smib_s\": %.1f, \"%siops\": %.0f", prefix, bytes * 1e9 / 1048576 / median,
				prefix, 1e9 / median
		}'
}

for access in sequential random; do
	case $access in
	sequential) bytes=$sequential_bytes ;;
	random) bytes=$random_bytes ;;
	esac
	extra=$(rates "$work/$access.viaduct" "$bytes" '')
	if [ -n "$peer" ]; then
		extra=$extra$(rates "$work/$access.$peer" "$bytes" peer_)
		result guest-nvme "$access read $bytes" "$work/$access.viaduct" "$(version $peer) with AIA" \
			"$work/$access.$peer" "$extra"
	else
		result guest-nvme "$access read $bytes" "$work/$access.viaduct" '' /dev/null "$extra"
	fi
done
