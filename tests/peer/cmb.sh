#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A served disk with a Controller Memory Buffer in a BAR that QEMU maps: a program in its guest puts
# a submission queue there and stores commands without a message; they are fetched from the BAR.
# Not the guest's own driver: Debian's kernels are built without PCI_P2PDMA, which it needs for that.
# shellcheck source=tests/peer/peer.sh
. "$(dirname "$0")/peer.sh"

pages=300	# several times around the queue
command -v x86_64-linux-gnu-gcc >/dev/null || skip 'no x86_64-linux-gnu-gcc for what runs in the guest'
x86_64-linux-gnu-gcc -std=gnu17 -Wall -Wextra -Werror -O2 -static -s -o "$work/nvme-cmb" "$here/nvme-cmb.c"
VIADUCT_CACHE=$peer "$top/tools/guest-initramfs" -o "$work/initramfs.cpio" --add "$work/nvme-cmb" >/dev/null
truncate -s 64M "$work/disk.img"
serve "nvme,image=$work/disk.img,cmb=2M" --socket "$work/disk"
start cmb shared "viaduct.job=cmb viaduct.pages=$pages" "$work/disk"
finish cmb "$vm"
stop_serving

in_cmb=$(counter devices.0.counters.commands_in_cmb)
[ "$in_cmb" = $((2 * pages)) ] || fail "$in_cmb commands were fetched from the BAR, not $((2 * pages))"
# Two doorbells a command, and what it takes to begin.
messages=$(counter server.messages)
[ "$messages" -lt $((4 * pages + 600)) ] || fail "$messages messages: commands were stored by messages"
[ "$(counter server.dma_reads)" = 0 ] || fail 'memory was read by messages'
# Byte i of page n is n * 31 + i * 7 + i / 256.
LC_ALL=C awk -v pages=$pages 'BEGIN {
	for (n = 0; n < pages; n++)
		for (i = 0; i < 4096; i++)
			printf "%d\n", (n * 31 + i * 7 + int(i / 256)) % 256
}' >"$work/expected"
head -c $((pages * 4096)) "$work/disk.img" | od -An -v -tu1 -w1 | tr -d ' ' |
	cmp -s - "$work/expected" || fail 'the image does not hold what the guest wrote'
echo "$in_cmb commands from the BAR"
