# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Sourced by the tests of bare-metal ports. Each is a program: exit 0 passed, 77 skipped with the
# reason as its last line, anything else failed. They build a port, start it in a stock QEMU and
# read the lines that it prints.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

fail() { echo "failed: $*"; exit 1; }
skip() { echo "$*"; exit 77; }

work=$(mktemp -d "${TMPDIR:-/tmp}/viaduct-port.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# build PORT: $work/PORT.elf
build() {
	status=0
	"$top/ports/build" "$1" "$work" >"$work/build" 2>&1 || status=$?
	[ "$status" != 77 ] || skip "$(tail -n 1 "$work/build")"
	[ "$status" = 0 ] || { tail -n 20 "$work/build"; fail "the build of $1"; }
}

# boot NAME PROGRAM [ARGUMENT...]: what it prints is in $work/NAME, without carriage returns
boot() {
	name=$1
	shift
	command -v "$1" >/dev/null || skip "$1 is not installed"
	status=0
	timeout -k 5 120 "$@" -m 3G -display none -monitor none -serial stdio \
		-rtc base=2026-11-24T12:34:56 </dev/null >"$work/out" 2>&1 || status=$?
	tr -d '\r' <"$work/out" >"$work/$name"
	grep '^not ok' "$work/$name" && fail "$name: see above"
	[ "$status" = 0 ] || { tail -n 5 "$work/$name"; fail "$name: QEMU ended with $status"; }
	ok=$(grep -c '^ok [0-9]* - ' "$work/$name") || fail "$name: it printed nothing"
	grep -qx "1..$ok" "$work/$name" || fail "$name: $ok tests, and not the number it planned"
	echo "$name: $ok passed, $(grep -c '# SKIP' "$work/$name" || :) skipped"
}

# has NAME TIMES PATTERN: so many lines match
has() {
	found=$(grep -cE "$3" "$work/$1" || :)
	[ "$found" = "$2" ] || fail "$1: $found lines, not $2, say: $3"
}

# What every format has to show.
# shows NAME FORMATS ABORTS
shows() {
	has "$1" "$2" 'GetTime returned 2026-11-24 12:3[4-7]$'
	has "$1" "$2" 'GetVariable returned "0001,0003,0000"$'
	has "$1" "$2" '^# the guest has the serial port$'
	has "$1" "$2" "the serial port's page is device memory"
	has "$1" "$(($3 * $2))" 'is reported with its address and pc$'
	has "$1" "$(($3 * $2))" 'is taken by the guest, which had masked all$'
	has "$1" "$((2 * $2))" 'itself: second abort$|same load: second abort$'
	has "$1" "$((2 * $2))" 'handler(| outside the map): abort without a handler$'
	has "$1" "$((2 * $2))" ': time limit$'
	has "$1" "$2" ': stray request$'
	has "$1" "$((12 * $2))" 'refused: -'
	has "$1" "$2" 'with tables of its own it loads at '
	has "$1" "$2" '^ok .* is reported as one of 0x[0-9a-f]*$'
	has "$1" "$2" 'and taken by the guest at its own address$'
	has "$1" "$2" 'tables outside the map are refused: '
	has "$1" "$2" "an ordinary guest's memory lies elsewhere and is faulted in: 0"
	has "$1" "$2" 'and all of it where it went$'
	has "$1" "$2" 'is out of reach$'
	has "$1" "$2" 'what was reserved and not used is given back$'
	has "$1" "$2" 'all memory is given back$'
}
