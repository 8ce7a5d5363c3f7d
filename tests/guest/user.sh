#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: user.sh disk | kill | snapshot
# Guests whose NVMe controllers are served by another process over vfio-user.
#   disk   two guests at once, one of them on private memory, whose DMA goes by messages: each fills
#          its disk with numbered records, and all of them are in the image
#   snapshot  a machine is saved while it writes, and goes on; another goes on from there, with its
#          controller in another server, on the disk as it was
#   kill   the server is killed while the guest writes: the guest gets an error, and goes on
. "$(dirname "$0")/guest.sh"

server=
trap '[ -z "$server" ] || kill -KILL "$server" 2>/dev/null || :; cleanup' EXIT

# serve WORD...: in the background, until it is ready.
serve() {
	mkfifo "$work/ready"
	"$viaduct" serve "$@" >"$work/ready" 2>"$work/serve.errors" &
	server=$!
	read -r line <"$work/ready" || line=
	[ "$line" = ready ] || fail "viaduct serve: '$line' $(cat "$work/serve.errors")"
}

# Whether all records are in the image of NAME, each in its place.
all_there() {
	seq -f 'viaduct record %.0f' 0 255 >"$work/$1.want"
	tr -d '\0' <"$work/$1.img" | cmp "$work/$1.want" -
}

case ${1-} in
disk)
	truncate -s 1M "$work/shared.img" "$work/private.img"
	serve "nvme,image=$work/shared.img" --socket "$work/shared" \
		"nvme,image=$work/private.img" --socket "$work/private" --threads 2
	boot private viaduct.job=killtest --memory-kind private \
		--device "vfio-user,socket=$work/private" &
	other=$!
	boot shared viaduct.job=killtest --device "vfio-user,socket=$work/shared" \
		--stats-json "$work/stats"
	wait $other
	for name in shared private; do
		console_has $name '^killtest: disk full' ||
			fail_boot $name 'the guest did not fill its disk'
	done
	kill -TERM "$server"
	wait "$server" || fail "viaduct serve ended with $?: $(cat "$work/serve.errors")"
	server=
	all_there shared || fail 'the image is not what the guest wrote'
	all_there private || fail 'the image is not what the guest on private memory wrote'
	;;
snapshot)
	truncate -s 1M "$work/first.img"
	serve "nvme,image=$work/first.img" --socket "$work/socket"
	start first viaduct.job=killtest --name "user-$$" \
		--device "vfio-user,socket=$work/socket" </dev/null
	while IFS= read -r line <&3; do
		case $(printf '%s' "$line" | tr -d '\r') in
		'flushed 40') "$viaduct" snapshot "user-$$" "$work/live" >/dev/null ;;
		'flushed 80')
			# The disk as of one moment is the server's: nothing copies it with the machine. What
			# was under way has ended when the machine is saved, and a paused one begins nothing.
			"$viaduct" pause "user-$$" >/dev/null
			"$viaduct" snapshot "user-$$" "$work/saved" >/dev/null
			cp "$work/first.img" "$work/second.img"
			"$viaduct" resume "user-$$" >/dev/null
			;;
		esac
		echo "$line" >>"$work/first.console"
	done
	status=0
	wait "$vm" || status=$?
	vm=
	[ "$status" = 0 ] || fail_boot first 'the guest did not go on'
	all_there first || fail 'the image is not what the guest wrote'
	kill -TERM "$server"
	wait "$server" || fail "viaduct serve ended with $?"
	rm "$work/ready"
	[ -s "$work/live" ] || fail_boot first 'there is no snapshot of the running machine'
	[ -s "$work/saved" ] || fail_boot first 'there is no snapshot of the paused machine'
	serve "nvme,image=$work/second.img" --socket "$work/socket"
	"$viaduct" run --restore "$work/saved" </dev/null >"$work/second.console" 2>&1 || status=$?
	[ "$status" = 0 ] || fail_boot second 'the machine did not go on from its snapshot'
	! console_has second '^flushed 79' || fail_boot second 'it began again'
	all_there second || fail 'the image is not what both wrote'
	;;
kill)
	truncate -s 64M "$work/kill.img"
	serve "nvme,image=$work/kill.img" --socket "$work/kill"
	# Linux asks the controller only when a command takes too long.
	start kill 'viaduct.job=killtest nvme_core.io_timeout=1 nvme_core.admin_timeout=1' \
		--device "vfio-user,socket=$work/kill" </dev/null
	while IFS= read -r line <&3; do
		case $line in
		'flushed 30'*) kill -KILL "$server" ;;
		esac
		echo "$line" >>"$work/kill.console"
	done
	status=0
	wait "$vm" || status=$?
	vm=
	server=
	console_has kill 'vfio-user.*the server has hung up' ||
		fail_boot kill 'viaduct does not say that the server is gone'
	console_has kill '^failed: dd: .*Input/output error' ||
		fail_boot kill 'the guest did not get an error'
	[ "$status" = 0 ] || fail_boot kill 'the guest did not power off'
	;;
*)
	fail "unknown case '${1-}'"
	;;
esac
