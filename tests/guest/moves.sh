#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A guest of two harts keeps files and checks their sums while the host moves its pages to other
# frames, discards pages it never touched, write-protects all of them and ages them, under it: it
# must never see a stale byte. With VIADUCT_NIGHTLY=1 for about a minute.
. "$(dirname "$0")/guest.sh"

rounds=20
[ -z "${VIADUCT_NIGHTLY:-}" ] || rounds=200

boot moves "viaduct.job=hash viaduct.rounds=$rounds" --cpus 2 --stress=move,discard,protect,age \
	--stats-json "$work/stats"
[ "$status" = 0 ] || fail_boot moves 'the guest did not power off'
console_has moves "^hash: ok, 2 worker(s), $rounds rounds" || fail_boot moves 'a sum is wrong'
zaps=$(counter "$work/stats" zaps)
[ "$zaps" -ge 1000 ] || fail "only $zaps zaps: hardly a page was moved under the guest"
echo "$zaps zaps, no stale byte"
