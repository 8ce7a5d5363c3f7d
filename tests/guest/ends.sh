#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The exit code tells how the guest ended: power-off 0, reset 3, panic 4.
. "$(dirname "$0")/guest.sh"

boot off viaduct.job=marker
[ "$status" = 0 ] || fail_boot off 'power-off is not exit code 0'
console_has off '^VIADUCT-MARKER' || fail_boot off 'the guest printed no marker'
boot reset viaduct.job=reset
[ "$status" = 3 ] || fail_boot reset 'reset is not exit code 3'
boot panic 'viaduct.job=panic panic=-1'
[ "$status" = 4 ] || fail_boot panic 'a panic is not exit code 4'
