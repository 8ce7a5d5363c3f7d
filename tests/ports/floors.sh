#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Floors 0 to 3 need nothing but the few functions that a compiler calls by itself and a port
# gives it: no libc, and none of its headers, on any processor there is a compiler for. A port's own
# link does not tell: it leaves out what the port does not call, with all that it needs.
#
# usage: tests/ports/floors.sh [ARCH...]
# shellcheck source=tests/ports/ports.sh
. "$(dirname "$0")/ports.sh"

[ $# != 0 ] || set -- x86-64 arm64 riscv64
built=0
for arch; do
	out=$work/$arch
	status=0
	"$top/ports/build" "floors-$arch" "$out" >"$work/build" 2>&1 || status=$?
	if [ "$status" = 77 ]; then
		echo "$arch: not built: $(tail -n 1 "$work/build")"
		continue
	fi
	[ "$status" = 0 ] || { tail -n 20 "$work/build"; fail "the build for $arch"; }
	# Generic ELF is all that nm need know.
	nm "$out"/*.o >"$work/names"
	awk 'NF == 3 && $2 ~ /[A-TV-Z]/ { print $3 }' "$work/names" | sort -u >"$work/has"
	awk '$1 == "U" { print $2 }' "$work/names" | sort -u | grep -vx _GLOBAL_OFFSET_TABLE_ |
		comm -23 - "$work/has" >"$work/needs"
	[ ! -s "$work/needs" ] || fail "for $arch they need $(tr '\n' ' ' <"$work/needs")"
	grep -q ' T vd_mmu_fault$' "$work/names" || fail "nm cannot read what was built for $arch"
	built=$((built + 1))
done
[ $built != 0 ] || skip 'no compiler for any of them is installed'
echo "floors 0 to 3 need nothing else, for $built processors"
