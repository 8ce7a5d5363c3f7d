#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Internal VMs on a real walker: stage 2 at EL2, with 4, 16 and 64 KiB granules and three sizes of
# guest addresses, on a processor that has all of them and on one that has not.
#
# usage: tests/ports/arm64-el2.sh
# shellcheck source=tests/ports/ports.sh
. "$(dirname "$0")/ports.sh"

build arm64-el2
board='qemu-system-aarch64 -M virt,virtualization=on,gic-version=2'
# shellcheck disable=SC2086 # $board is a list
boot max $board -cpu max -kernel "$work/arm64-el2.elf"
has max 0 '# SKIP'
shows max 9 12
for granule in 4 16 64; do
	has max 3 "^# arm64 stage 2, $granule KiB granule, [0-9]+ bits$"
done
# 1 GiB; 32 MiB and 2 MiB blocks around a ragged range; 512 MiB
has max 3 '^# 0x080000000 +1 x 1 GiB, level 1, rw- normal write-back$'
has max 3 '^# 0x062000000 +16 x 2 MiB, level 2, rw- normal write-back, contiguous$'
has max 3 '^# 0x080000000 +32 x 32 MiB, level 2, rw- normal write-back, contiguous$'
has max 3 '^# 0x062000000 +1 x 32 MiB, level 2, rw- normal write-back$'
has max 3 '^# 0x080000000 +2 x 512 MiB, level 2, rw- normal write-back$'
has max 9 '^# 0x009000000 .* rw- device-nGnRE'
# the abort as the guest's own registers have it: synchronous external, same level, read, write, run
has max 36 '^# guest: syndrome 0x96000010 address 0x'
has max 36 '^# guest: syndrome 0x96000050 address 0x'
has max 18 '^# guest: syndrome 0x86000010 address 0x'
# and from the level below
has max 18 '^# guest: syndrome 0x92000010 address 0x'

# shellcheck disable=SC2086
boot cortex-a57 $board -cpu cortex-a57 -kernel "$work/arm64-el2.elf"
has cortex-a57 3 '16 KiB granule, .* # SKIP this processor has no such granule$'
shows cortex-a57 6 12
