#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Devices served over vfio-user. First message by message: `viaduct serve bench` beside the bare
# ping-pong over a socket and, if there is one, another server of the same device. Then disks: `viaduct
# serve nvme` under stock QEMU (tools/peer-fetch x86_64) beside that QEMU's own NVMe, on the same image.
#
# usage: bench/vfio-user.sh [ROUNDS [wire|disk]...]
#        default 5 and both; prints JSON as 'viaduct bench --json' does
# environment: VIADUCT (default build/viaduct), VIADUCT_CACHE as for tools/guest-fetch
#   VIADUCT_WIRE, VIADUCT_FLOOR   the neutral drivers: wire SOCKET CPU LABEL TWIN OPS, and floor CPU CPU
#                                 OPS, which print "(c) region read ..., LABEL   p50 NS  p10 NS ..."
#   VIADUCT_PEER_SERVER           program that serves the device at the socket that is its argument
#   VIADUCT_BENCH_CPU             server and driver are pinned to it (default 1)
# shellcheck source=bench/result.sh
. "$(dirname "$0")/result.sh"

rounds=${1:-5}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- wire disk
cpu=${VIADUCT_BENCH_CPU:-1}
wire=${VIADUCT_WIRE-}
floor=${VIADUCT_FLOOR-}
peer_server=${VIADUCT_PEER_SERVER-}
seconds=2
cases='random:4096:1 random:4096:32 sequential:131072:1 sequential:131072:8'
peer=$cache/peer-x86_64
qemu=$peer/qemu-system-x86_64

# ---- message by message ----

# wait_for_socket PATH
wait_for_socket() {
	tries=500
	until [ -S "$1" ]; do
		kill -0 $pid 2>/dev/null || die "the server is gone: $(cat "$work/server")"
		tries=$((tries - 1))
		[ $tries -gt 0 ] || die "no socket $1"
		sleep 0.01
	done
}

# drive WHO COMMAND...: one run of the driver against that server.
drive() {
	who=$1
	shift
	rm -f "$work/socket"
	taskset -c "$cpu" "$@" >"$work/server" 2>&1 &
	pid=$!
	wait_for_socket "$work/socket"
	timeout 120 "$wire" "$work/socket" "$cpu" "$who" 0 4000 >"$work/out" 2>&1 ||
		die "$who: $(tail -n 1 "$work/out")"
	kill -KILL $pid
	wait $pid 2>/dev/null || :
	pid=
	keep read "$who" '(c) region read 4B'
	keep dma "$who" '(e) 4K DMA_READ'
	keep dma-p50 "$who" '(e) 4K DMA_READ' p50
	keep irq "$who" '(d) IRQ'
	for n in 1 16 64 256; do
		keep map-$n "$who" "(a) DMA_MAP   nofd N=$n "
		keep map-fd-$n "$who" "(a) DMA_MAP   fd   N=$n "
		keep unmap-$n "$who" "(a) DMA_UNMAP nofd N=$n "
		keep unmap-fd-$n "$who" "(a) DMA_UNMAP fd   N=$n "
	done
}

# keep CASE WHO START [WHICH]: the p10, or another one, of the driver's line that starts so.
keep() {
	awk -v start="$3" -v which="${4-p10}" 'index($0, start) == 1 {
		sub(".* " which " *", "")
		print $1
	}' "$work/out" >>"$work/$1.$2"
}

measure_floor() {
	timeout 60 "$floor" "$cpu" "$cpu" 10000 >"$work/out"
	keep read floor 'floor: 32B -> 36B'
	keep dma floor 'floor: 32B -> 4128B'
	# A driver that times ten messages at once has no such p10 as the floor, which times each.
	keep dma-p50 floor 'floor: 32B -> 4128B' p50
	"$work/eventfd" "$cpu" 1000 | sort -n | sed -n 100p >>"$work/irq.floor"
	for n in 1 16 64 256; do
		for what in map map-fd unmap unmap-fd; do
			keep $what-$n floor 'floor: 32B -> 36B'
		done
	done
}

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# extra CASE: the peer beside the floor
extra() {
	[ -s "$work/$1.peer" ] || return 0
	awk -v ours="$(median "$work/$1.viaduct")" -v theirs="$(median "$work/$1.peer")" \
		-v floor="$(median "$work/$1.floor")" 'BEGIN {
			printf ", \"server\": \"%s\", \"server_median_ns\": %.0f, ", "other", theirs
			printf "\"server_to_floor\": %.3f, \"ours_to_server\": %.3f", theirs / floor, ours / theirs
		}'
}

run_wire() {
	if [ ! -x "$wire" ] || [ ! -x "$floor" ]; then
		note 'wire skipped: VIADUCT_WIRE and VIADUCT_FLOOR name no drivers'
		return
	fi
	cc -O2 -o "$work/eventfd" "$top/bench/eventfd.c"
	round=0
	while [ $round -lt "$rounds" ]; do
		measure_floor
		drive viaduct "$viaduct" serve bench --socket "$work/socket"
		[ -z "$peer_server" ] || drive peer "$peer_server" "$work/socket"
		round=$((round + 1))
	done
	for case in read irq dma dma-p50 map-1 map-16 map-64 map-256 map-fd-1 map-fd-16 map-fd-64 \
		map-fd-256 unmap-1 unmap-256 unmap-fd-1 unmap-fd-256; do
		result vfio-user $case "$work/$case.viaduct" floor "$work/$case.floor" "$(extra $case)"
	done
}

# ---- disks ----

# A disk of QEMU's own ($1 own), or ours.
boot() {
	who=$1
	if [ "$who" = own ]; then
		set -- -drive "file=$work/disk.img,format=raw,id=disk,if=none" \
			-device nvme,drive=disk,serial=bench
	else
		rm -f "$work/disk"
		"$viaduct" serve "nvme,image=$work/disk.img" --socket "$work/disk" >"$work/server" 2>&1 &
		pid=$!
		wait_for_socket "$work/disk"
		set -- -device "{\"driver\": \"vfio-user-pci\",
			\"socket\": {\"type\": \"unix\", \"path\": \"$work/disk\"}}"
	fi
	timeout 120 "$qemu" -M q35,memory-backend=ram -m 256M \
		-object memory-backend-memfd,id=ram,size=256M,share=on -nodefaults -no-user-config \
		-display none -monitor none -serial stdio -no-reboot -kernel "$peer/guest/Image" \
		-initrd "$work/bench.cpio" -append "console=ttyS0 quiet viaduct.job=bench-nvme \
		viaduct.seconds=$seconds viaduct.cases=$(echo "$cases" | tr ' ' ,)" "$@" \
		</dev/null >"$work/out" 2>&1 || die "$who: $(tail -n 1 "$work/out")"
	[ -z "$pid" ] || { kill $pid && wait $pid; } || die "serve: $(cat "$work/server")"
	pid=
	for case in $cases; do
		tr -d '\r' <"$work/out" | awk -v want="$case" '/^bench-nvme: / && $2 == want {
			printf "%.0f\n", $9 / $3
		}' >>"$work/$case.$who"
	done
}

# rate CASE: ours as reads a second, and as a part of the peer's
rate() {
	awk -v ours="$(median "$work/$1.viaduct")" -v theirs="$(median "$work/$1.own")" 'BEGIN {
		printf ", \"iops\": %.0f, \"peer_iops\": %.0f, \"rate\": %.3f", 1e9 / ours, 1e9 / theirs,
			theirs / ours
	}'
}

run_disk() {
	if [ ! -e "$peer/guest/VERSION" ]; then
		note 'disk skipped: no QEMU with a vfio-user client; tools/peer-fetch x86_64 gets it'
		return
	fi
	command -v x86_64-linux-gnu-gcc >/dev/null ||
		die "the guest's program needs x86_64-linux-gnu-gcc"
	x86_64-linux-gnu-gcc -O2 -static -s -o "$work/bench-nvme" "$top/tests/guest/bench-nvme.c"
	VIADUCT_CACHE=$peer "$top/tools/guest-initramfs" -o "$work/bench.cpio" \
		--add "$work/bench-nvme" >/dev/null
	head -c 128M /dev/zero | tr '\0' 'v' >"$work/disk.img"
	round=0
	while [ $round -lt "$rounds" ]; do
		boot viaduct
		boot own
		round=$((round + 1))
	done
	version=$("$qemu" --version | sed -n '1s/.*version \([0-9.]*\).*/QEMU \1/p')
	for case in $cases; do
		result vfio-user "nvme $case" "$work/$case.viaduct" "$version's own NVMe" \
			"$work/$case.own" "$(rate "$case")"
	done
}

for part; do
	case $part in
	wire|disk) "run_$part" ;;
	*) die "unknown part '$part' (one of: wire disk)" ;;
	esac
done
