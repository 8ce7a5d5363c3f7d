#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Every fill of the software TLB, through boot and work of a guest of two harts, agrees with a fresh
# walk of the second-stage tables.
. "$(dirname "$0")/guest.sh"

boot tlb 'viaduct.job=hash viaduct.rounds=2' --cpus 2 --check-tlb
[ "$status" = 0 ] || fail_boot tlb 'a fill and a walk differ, or the guest did not power off'
console_has tlb '^hash: ok, 2 worker(s), 2 rounds' || fail_boot tlb 'the guest did not do its work'
