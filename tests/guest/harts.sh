#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: harts.sh N: the guest boots with N harts, all of them do work, and it powers off.
. "$(dirname "$0")/guest.sh"
harts=${1:?number of harts}

boot harts 'viaduct.job=hash viaduct.rounds=4' --cpus "$harts"
[ "$status" = 0 ] || fail_boot harts 'power-off is not exit code 0'
console_has harts "^hash: ok, $harts worker(s), 4 rounds" ||
	fail_boot harts "not $harts harts at work"
