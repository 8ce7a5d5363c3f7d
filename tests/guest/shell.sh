#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The guest's shell is usable over the serial console: it runs what is typed, Ctrl-C ends a command,
# and its exit powers the guest off.
. "$(dirname "$0")/guest.sh"

# Reads the console up to a line that matches the pattern $1.
expect() {
	while IFS= read -r line <&3; do
		line=$(printf '%s' "$line" | tr -d '\r')
		echo "$line" >>"$work/shell.console"
		# shellcheck disable=SC2254 # a pattern it is
		case $line in $1) return ;; esac
	done
	status=
	fail_boot shell "the console never said '$1'"
}

type_line() { printf '%s\r' "$1" >&4; }

mkfifo "$work/keys"
exec 4<>"$work/keys"
start shell viaduct.job=shell <"$work/keys"
expect "*'exit' powers the guest off."
# What is typed is echoed: the quotes keep the echo from being taken for the answer.
type_line "(trap \"echo 'end'ed\" INT; echo 'start'ed; sleep 1000)"
expect started
printf '\003' >&4
expect '*ended'	# the terminal echoes ^C before it
type_line "echo answer \$((6 * 7))"
expect 'answer 42'
type_line exit
status=0
cat <&3 >>"$work/shell.console"
wait "$vm" || status=$?
vm=
[ $status = 0 ] || fail_boot shell 'exit of the shell did not power the guest off'
