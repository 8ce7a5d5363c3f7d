#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Boot a guest to the first line of its init: the time from the start of the process, beside that
# of QEMU on its virt board, and the memory taken beyond the guest's.
#
# usage: bench/boot.sh [ROUNDS]    default 7; prints JSON as 'viaduct bench --json' does
# environment: VIADUCT (default build/viaduct), VIADUCT_CACHE as for tools/guest-fetch
# shellcheck source=bench/guests.sh
. "$(dirname "$0")/guests.sh"

rounds=${1:-7}
"$top/tools/guest-initramfs" -o "$work/plain.cpio" >/dev/null

marker_ns() {
	start=$(date +%s%N)
	guest "$1" "$work/plain.cpio" viaduct.job=marker 2>&1 | {
		while IFS= read -r line; do
			case $line in VIADUCT-MARKER*) echo $(($(date +%s%N) - start)) ;; esac
		done
	}
}

peers=
for who in qemu7 qemu10; do
	if [ -n "$(emulator $who)" ]; then
		peers="$peers $who"
	else
		note "$who skipped: not here (tools/setup bench, tools/peer-fetch)"
	fi
done

# The first round fills the page cache and is not counted.
round=0
while [ $round -le "$rounds" ]; do
	for who in viaduct $peers; do
		marker_ns "$who" >"$work/time"
		[ -s "$work/time" ] || die "$who prints no marker"
		[ $round -eq 0 ] || cat "$work/time" >>"$work/boot.$who"
	done
	round=$((round + 1))
done

# RssAnon + RssFile in KiB: guest memory and BAR memory are memory files and count as RssShmem. The
# most of samples every 20 ms until the end, in a run of its own, as sampling takes time.
peak=0
guest viaduct "$work/plain.cpio" viaduct.job=marker >/dev/null 2>&1 &
pid=$!
while sleep 0.02 && kill -0 $pid 2>/dev/null; do
	# $pid is timeout's, its only child ours; each may be gone by now.
	child=$(cat /proc/$pid/task/$pid/children 2>/dev/null || :)
	now=$(awk '/^Rss(Anon|File):/ { sum += $2 } END { print sum + 0 }' \
		"/proc/${child% }/status" 2>/dev/null || echo 0)
	[ "$now" -le "$peak" ] || peak=$now
done
wait $pid || die 'the guest failed'
pid=

[ -n "$peers" ] || result boot marker "$work/boot.viaduct"
for who in $peers; do
	result boot marker "$work/boot.viaduct" "$(version "$who")" "$work/boot.$who" \
		", \"beyond_guest_bytes\": $((peak * 1024))"
done
