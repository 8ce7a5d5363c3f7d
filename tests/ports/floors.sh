#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Floors 0 to 3 need nothing but what a compiler calls by itself: no libc, and none of its headers.
#
# usage: tests/ports/floors.sh
# shellcheck source=tests/ports/ports.sh
. "$(dirname "$0")/ports.sh"

build floors
needed=$(nm -u "$work/floors.o" | awk '{ print $2 }' | sort -u |
	grep -vxE 'mem(cpy|move|set|cmp)|__(clz|ctz|popcount)di2|_GLOBAL_OFFSET_TABLE_' || :)
[ -z "$needed" ] || fail "they need $needed"
echo 'floors 0 to 3 need nothing else'
