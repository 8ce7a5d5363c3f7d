# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Sourced by the tests with a peer: stock QEMU's vfio-user client and an amd64 Debian guest, whose
# disks `viaduct serve` is. Each is a program: exit 0 passed, 77 skipped with the reason as its last
# line, anything else failed. They leave nothing behind.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
viaduct=${VIADUCT:-$top/build/viaduct}
peer=${VIADUCT_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/viaduct}/peer-x86_64
qemu=$peer/qemu-system-x86_64

fail() { echo "failed: $*"; exit 1; }
skip() { echo "$*"; exit 77; }

[ -x "$viaduct" ] || skip "no $viaduct; build it first"
[ -e "$peer/guest/VERSION" ] ||
	skip 'no QEMU with a vfio-user client in the cache; tools/peer-fetch x86_64 gets it'
"$qemu" --version >/dev/null 2>&1 || skip "$qemu does not run here"

work=$(mktemp -d "${TMPDIR:-/tmp}/viaduct-test.XXXXXX")
server=	# process id of viaduct serve
vms=	# and those of the QEMUs not yet waited for
cleanup() {
	for pid in $vms $server; do
		kill -KILL "$pid" 2>/dev/null || :
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
VIADUCT_CACHE=$peer "$top/tools/guest-initramfs" -o "$work/initramfs.cpio" >/dev/null

# serve WORD...: viaduct serve in the background, listening.
serve() {
	mkfifo "$work/ready"
	"$viaduct" serve "$@" --stats-json "$work/stats.json" >"$work/ready" 2>"$work/serve.log" &
	server=$!
	line=
	read -r line <"$work/ready" || :
	rm "$work/ready"
	[ "$line" = ready ] || fail "viaduct serve said '$line': $(cat "$work/serve.log")"
}

# What was served is flushed, and the server had nothing to complain of.
stop_serving() {
	kill -TERM "$server"
	status=0
	wait "$server" || status=$?
	server=
	[ $status = 0 ] || fail "viaduct serve ended with $status: $(cat "$work/serve.log")"
	[ ! -s "$work/serve.log" ] || fail "viaduct serve: $(cat "$work/serve.log")"
}

counter() { "$top/tools/json-lines" "$work/stats.json" "$1"; }

# start NAME MEMORY WORDS SOCKET...: QEMU in the background, its guest's console in
# $work/NAME.console; $vm is its process id. MEMORY: shared with the server, or private. WORDS are
# for the kernel's command line.
start() {
	name=$1
	memory=$2
	words=$3
	shift 3
	left=$#
	while [ $left -gt 0 ]; do
		# On a busy machine nothing is proved by an answer that took 5 s.
		set -- "$@" -device "{\"driver\": \"vfio-user-pci\", \"x-msg-timeout\": 60000,
			\"socket\": {\"type\": \"unix\", \"path\": \"$1\"}}"
		shift
		left=$((left - 1))
	done
	case $memory in
	shared) set -- "$@" -object memory-backend-memfd,id=ram,size=256M,share=on \
		-machine memory-backend=ram ;;
	private) ;;
	*) fail "memory '$memory'" ;;
	esac
	"$qemu" -M q35 -m 256M -nodefaults -no-user-config -display none -monitor none \
		-serial stdio -kernel "$peer/guest/Image" -initrd "$work/initramfs.cpio" \
		-append "console=ttyS0 quiet $words" "$@" \
		</dev/null >"$work/$name.console" 2>"$work/$name.qemu" &
	vm=$!
	vms="$vms $vm"
}

# finish NAME PROCESS: waits until that QEMU has ended by its guest's power-off, and has had no
# complaint.
finish() {
	status=0
	wait "$2" || status=$?
	vms=$(echo " $vms " | sed "s/ $2 / /")
	[ $status = 0 ] || fail_boot "$1" "QEMU ended with $status"
	[ ! -s "$work/$1.qemu" ] || fail_boot "$1" 'QEMU complained'
	console_has "$1" '^peer: ok' || fail_boot "$1" 'the guest did not come to its end'
}

# Prints the console of guest NAME and fails.
fail_boot() {
	tail -n 20 "$work/$1.console"
	cat "$work/$1.qemu" "$work/serve.log"
	shift
	fail "$*"
}

console() { tr -d '\r' <"$work/$1.console"; }
console_has() { console "$1" | grep -q "$2"; }

# check_disk NAME DISK IMAGE: what the guest says it wrote to that disk is what the image holds, and
# the disk's driver was interrupted by MSI-X.
check_disk() {
	sum=$(console "$1" | sed -n "s/^peer: $2n1 \([0-9a-f]\{128\}\)$/\1/p" | tail -n 1)
	[ -n "$sum" ] || fail_boot "$1" "no checksum of $2"
	e2fsck -fn "$3" >"$work/fsck" 2>&1 || fail "e2fsck of $3: $(cat "$work/fsck")"
	debugfs -R "dump /data $work/data" "$3" 2>/dev/null
	[ "$(sha512sum "$work/data")" = "$sum  $work/data" ] ||
		fail "$3 does not hold what the guest wrote to $2"
	console_has "$1" "^peer: $2 vector [0-9]* msix [1-9]" ||
		fail_boot "$1" "no MSI-X interrupt of $2"
}
