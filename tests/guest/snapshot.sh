#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: snapshot.sh copied | kept [OPTION...]: options of viaduct run
# A guest of two harts keeps files in memory and on its disk and checks their sums. Snapshots are
# taken while it does; it ends well, and so does what goes on from them.
#   copied: with a copy of the disk image: can be restored again and again
#   kept: without: can be restored while the image is as it was, and is refused afterwards
. "$(dirname "$0")/guest.sh"

case=${1-}
[ $# -eq 0 ] || shift
name=snapshot-test-$$
file=$work/snap
image=$work/disk.img
truncate -s 32M "$image"

# Reads the console of boot $1 up to a line that matches the pattern $2.
expect() {
	while IFS= read -r line <&3; do
		line=$(printf '%s' "$line" | tr -d '\r')
		echo "$line" >>"$work/$1.console"
		# shellcheck disable=SC2254 # a pattern it is
		case $line in $2) return ;; esac
	done
	status=
	fail_boot "$1" "the console never said '$2'"
}

# The rest of the console, and how the guest ended.
finish() {
	status=0
	cat <&3 >>"$work/$1.console"
	wait "$vm" || status=$?
	vm=
}

# restore NAME FILE: goes on from a snapshot until it ends; sets $status
restore() {
	status=0
	"$viaduct" run --restore "$2" </dev/null >"$work/$1.console" 2>&1 || status=$?
}

ended_well() {
	[ "$status" = 0 ] || fail_boot "$1" 'the guest did not power off'
	console_has "$1" '^snapshot: ok, 8 rounds' || fail_boot "$1" 'a sum is wrong'
	! console_has "$1" STALE || fail_boot "$1" 'a sum is wrong'
}

start guest 'viaduct.job=snapshot viaduct.rounds=8' --cpus 2 --name "$name" \
	--device "nvme,image=$image" "$@" </dev/null
expect guest 'disk: round 2*'
case $case in
copied)
	"$viaduct" snapshot --copy-image "$name" "$file" || fail 'no snapshot'
	finish guest
	ended_well guest
	for again in once twice; do
		restore $again "$file"
		ended_well $again
		! console_has $again 'disk: round 1$' || fail_boot $again 'it began anew'
	done
	rm "$file".disk*
	restore gone "$file"
	[ "$status" = 1 ] || fail_boot gone 'restored without its disk'
	;;
kept)
	"$viaduct" snapshot "$name" "$file" || fail 'no snapshot'
	expect guest 'disk: round 4*'
	"$viaduct" pause "$name" >/dev/null || fail 'no pause'
	"$viaduct" snapshot "$name" "$file.paused" || fail 'no snapshot of a paused guest'
	"$viaduct" quit "$name" >/dev/null || fail 'no quit'
	finish guest
	restore early "$file"
	[ "$status" = 1 ] || fail_boot early 'an image that was written is not refused'
	console_has early 'was written since' || fail_boot early 'not the reason'
	restore paused "$file.paused"
	ended_well paused
	restore again "$file.paused"
	[ "$status" = 1 ] || fail_boot again 'restored twice on one image'
	! "$viaduct" snapshot "$name" "$file" 2>/dev/null || fail 'a snapshot of nobody'
	;;
*) fail "unknown case '$case'" ;;
esac
