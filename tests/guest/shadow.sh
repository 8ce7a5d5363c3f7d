#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The same guests with shadow page tables: one hart and two; then, every fill checked, while the host
# moves its pages to other frames and discards pages it never touched.
. "$(dirname "$0")/guest.sh"

shadow_counter() { counter "$work/stats" "shadow.$1"; }

# boots NAME WORKERS ROUNDS [OPTION...]: with shadow tables, and counters that say so.
boots() {
	name=$1
	workers=$2
	rounds=$3
	shift 3
	boot "$name" "viaduct.job=hash viaduct.rounds=$rounds" --mmu shadow --cpus "$workers" \
		--stats-json "$work/stats" "$@"
	[ "$status" = 0 ] || fail_boot "$name" 'the guest did not power off'
	console_has "$name" "^hash: ok, $workers worker(s), $rounds rounds" ||
		fail_boot "$name" 'a sum is wrong'
	for key in faults guest_faults pages_made prefills table_stores zaps flushes; do
		[ "$(shadow_counter $key)" -gt 0 ] || fail "$name: no $key counted"
	done
	# A second-stage table would have been used otherwise.
	[ "$(counter "$work/stats" faults.ram)" = 0 ] || fail "$name: faults of two stages"
	# Most stores to tables are noted without dropping the page's shadow.
	[ "$(shadow_counter table_stores)" -gt $((10 * $(shadow_counter floods))) ] ||
		fail "$name: tables are dropped at every store"
}

boots one 1 2
boots two 2 4 --svadu
boots moves 2 2 --stress=move,discard --check-tlb
[ "$(shadow_counter retries)" -gt 0 ] || fail 'no fault raced with a change of memory'
echo "$(shadow_counter faults) faults, $(shadow_counter zaps) zaps, no stale byte"
