#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Two guests at once, one with private memory, each with two disks and edu: six devices of one
# server. In each the disks keep a file each; edu computes, copies by DMA and interrupts by its line.
# shellcheck source=tests/peer/peer.sh
. "$(dirname "$0")/peer.sh"

set --
for guest in a b; do
	for disk in 0 1; do
		truncate -s 32M "$work/$guest$disk.img"
		set -- "$@" "nvme,image=$work/$guest$disk.img,serial=$guest$disk" \
			--socket "$work/$guest$disk"
	done
	set -- "$@" edu --socket "$work/$guest-edu"
done
serve "$@"
# The megabyte that edu copies to and from is not the kernel's.
words="viaduct.job=peer viaduct.disks=2 viaduct.edu=1 viaduct.megabytes=2 memmap=1M\$128M"
start a shared "$words" "$work/a0" "$work/a1" "$work/a-edu"
a=$vm
start b private "$words" "$work/b0" "$work/b1" "$work/b-edu"
finish a "$a"
finish b "$vm"
stop_serving
for guest in a b; do
	check_disk $guest nvme0 "$work/${guest}0.img"
	check_disk $guest nvme1 "$work/${guest}1.img"
	console_has $guest '^peer: edu interrupts 3$' || fail_boot $guest 'not 3 interrupts of edu'
done
