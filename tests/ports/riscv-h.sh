#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Internal VMs on a real walker: G-stage translation of the hypervisor extension, in all x4 modes,
# with and without groups of 64 KiB (Svnapot).
#
# usage: tests/ports/riscv-h.sh
# shellcheck source=tests/ports/ports.sh
. "$(dirname "$0")/ports.sh"

build riscv-h
board='qemu-system-riscv64 -M virt -bios none'
# shellcheck disable=SC2086 # $board is a list
boot napot $board -cpu rv64,h=true,svpbmt=true,svnapot=true -kernel "$work/riscv-h.elf"
has napot 0 '# SKIP'
shows napot 6 11
for mode in 39 48 57; do
	has napot 2 "^# Sv${mode}x4( with Svnapot)?$"
done
has napot 6 '^# 0x0c0000000 +1 x 1 GiB, level 2, rw- normal$'
has napot 6 '^# 0x0a2000000 +16 x 2 MiB, level 1, rw- normal$'
has napot 3 '^# 0x0a4000000 +48 x 4 KiB, level 0, rw- normal, contiguous$'
has napot 6 '^# 0x010000000 .* rw- device'
# load, store and fetch access faults, as the guest's own registers have them
has napot 30 '^# guest: syndrome 0x5 address 0x'
has napot 24 '^# guest: syndrome 0x7 address 0x'
has napot 12 '^# guest: syndrome 0x1 address 0x'

# shellcheck disable=SC2086
boot plain $board -cpu rv64,h=true,svpbmt=true -kernel "$work/riscv-h.elf"
has plain 3 'with Svnapot # SKIP this processor has no Svnapot$'
shows plain 3 11
