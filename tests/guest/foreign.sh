#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A guest whose RAM is private memory of the process keeps files and checks their sums while other
# threads discard what it leaves alone of it, age, page out and protect the rest, and move, cut and
# unmap what lies beside it: it must never see a stale byte. With VIADUCT_NIGHTLY=1 for about a
# minute.
. "$(dirname "$0")/guest.sh"

rounds=10
[ -z "${VIADUCT_NIGHTLY:-}" ] || rounds=120

boot foreign "viaduct.job=hash viaduct.rounds=$rounds mem=224M" --cpus 2 --memory-kind private \
	--stress=foreign --stats-json "$work/stats"
[ "$status" = 0 ] || fail_boot foreign 'the guest did not power off'
console_has foreign "^hash: ok, 2 worker(s), $rounds rounds" || fail_boot foreign 'a sum is wrong'
if grep -q '"watched":true' "$work/stats"; then
	discards=$(counter "$work/stats" foreign.discards)
	[ "$discards" -ge 100 ] || fail "only $discards discards: hardly anything was changed"
	echo "$discards discards by others, no stale byte"
else
	echo 'userfaultfd is blocked here: the memory was locked; no stale byte'
fi
