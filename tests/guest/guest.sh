# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Sourced by the guest tests. Each is a program: exit 0 passed, 77 skipped with the reason as its
# last line, anything else failed. They boot $VIADUCT (default build/viaduct) with the guest that
# tools/guest-fetch left in the cache, and leave nothing behind.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
viaduct=${VIADUCT:-$top/build/viaduct}
guest=${VIADUCT_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/viaduct}/guest

fail() { echo "failed: $*"; exit 1; }
skip() { echo "$*"; exit 77; }

[ -x "$viaduct" ] || skip "no $viaduct; build it first"
[ -e "$guest/VERSION" ] || skip 'no guest in the cache; tools/guest-fetch gets it'

work=$(mktemp -d "${TMPDIR:-/tmp}/viaduct-test.XXXXXX")
vm=	# process id of the guest started last and not yet waited for
cleanup() {
	[ -z "$vm" ] || kill -KILL "$vm" 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
"$top/tools/guest-initramfs" -o "$work/initramfs.cpio" >/dev/null

# boot NAME WORDS [OPTION...]: runs a guest until it ends, its console in $work/NAME.console; sets
# $status. WORDS are for the kernel's command line.
boot() {
	status=0
	launch "$@" </dev/null >"$work/$1.console" 2>&1 || status=$?
}

replace=

# The same in the foreground, with the caller's own descriptors.
launch() {
	words=$2
	shift 2
	# shellcheck disable=SC2086 # empty, or exec
	$replace "$viaduct" run --kernel "$guest/Image" --initrd "$work/initramfs.cpio" \
		--memory 256M --append "console=ttyS0 quiet $words" "$@"
}

# start NAME WORDS [OPTION...]: the same in the background, with the caller's standard input; its
# console is read from descriptor 3.
start() {
	mkfifo "$work/$1.fifo"
	# A shell gives its background jobs /dev/null as descriptor 0: the caller's goes by another.
	{
		exec_in_background "$@" <&5 >"$work/$1.fifo" 2>&1 5<&- &
		vm=$!
	} 5<&0
	exec 3<"$work/$1.fifo"
}

# A background function is a subshell of its own: replaced by viaduct, $! is viaduct's id.
exec_in_background() {
	replace="exec"
	launch "$@"
}

# Prints the console of boot NAME and fails.
fail_boot() {
	name=$1
	shift
	tail -n 20 "$work/$name.console"
	fail "$* (status $status)"
}

console_has() { tr -d '\r' <"$work/$1.console" | grep -q "$2"; }

counter() { "$top/tools/json-lines" "$1" "$2"; }
