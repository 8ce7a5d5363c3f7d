#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: storm.sh [OPTION...]: of `viaduct run`, such as --mmu shadow
# Everything at once: a guest of two harts keeps files and checks their sums while the host moves,
# write-protects, ages and discards its pages, a balloon fills and empties, its memory is looked at, and
# snapshots are taken one after the other. It must never see a stale byte, and neither may the guest
# that goes on from the last snapshot. With VIADUCT_NIGHTLY=1 for about a minute.
. "$(dirname "$0")/guest.sh"

rounds=12
[ -z "${VIADUCT_NIGHTLY:-}" ] || rounds=150
rounds=${VIADUCT_STORM_ROUNDS:-$rounds} # fewer for a program that is slow
name=storm-$$
file=$work/snap

start storm "viaduct.job=hash viaduct.load=virtio_balloon viaduct.rounds=$rounds" --cpus 2 \
	--name "$name" --device balloon --stress=move,discard,protect,age --stats-json "$work/stats" \
	"$@" </dev/null
while IFS= read -r line <&3; do
	line=$(printf '%s' "$line" | tr -d '\r')
	echo "$line" >>"$work/storm.console"
	case $line in 'hash: worker '*' round 1') break ;; esac
done
# The console is read on, or the guest would wait for it.
cat <&3 >>"$work/storm.console" &
reader=$!

taken=0
size=128M
while kill -0 "$vm" 2>/dev/null; do
	"$viaduct" balloon "$name" $size >/dev/null 2>&1 || break
	if [ $size = 128M ]; then size=256M; else size=128M; fi
	"$viaduct" map "$name" >"$work/map" 2>&1 || break
	"$viaduct" snapshot "$name" "$file.new" >"$work/snapshot" 2>&1 || break
	# What goes on from one that was taken later has nothing more to say.
	! console_has storm '^hash: ok' || break
	mv "$file.new" "$file"
	taken=$((taken + 1))
done
status=0
wait "$vm" || status=$?
vm=
wait "$reader"
[ "$status" = 0 ] || fail_boot storm 'the guest did not power off'
console_has storm "^hash: ok, 2 worker(s), $rounds rounds" || fail_boot storm 'a sum is wrong'
zaps=$(counter "$work/stats" zaps)
[ $taken -ge 1 ] || { cat "$work/snapshot"; fail "$taken snapshots were taken"; }

"$viaduct" run --restore "$file" </dev/null >"$work/restored.console" 2>&1 ||
	fail_boot restored 'what went on from the last snapshot did not power off'
console_has restored "^hash: ok, 2 worker(s), $rounds rounds" || fail_boot restored 'a sum is wrong'
echo "$zaps zaps, $taken snapshots, no stale byte"
