# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# shellcheck disable=SC2154 # the caller sets tmp, new and kernel
# Sourced by the scripts that unpack a guest's kernel. The caller sets tmp, under which the package
# $kernel was unpacked as $tmp/kernel, and new, the folder that gets modules/; and has say and die.

# unpack_modules GROUP...: each group's module and all it needs into $new/modules, and in
# GROUP.list there the file names in the order to load them. A package has no modules.dep.
unpack_modules() {
	for g; do
		module_pairs "$g" >"$tmp/pairs"
		tsort "$tmp/pairs" | sed 's/$/.ko/' >"$new/modules/$g.list"
		say "modules for $g: $(tr '\n' ' ' <"$new/modules/$g.list")"
	done
}

# Prints the modules that $1 needs, itself included, as pairs for tsort: "needed needing".
module_pairs() {
	todo=$1
	seen=' '
	while [ -n "$todo" ]; do
		m=${todo%% *}
		todo=${todo#"$m"}
		todo=${todo# }
		case $seen in *" $m "*) continue ;; esac
		seen="$seen$m "
		unpack_module "$m"
		echo "$m $m"
		for d in $(module_needs "$new/modules/$m.ko"); do
			echo "$d $m"
			todo="$todo${todo:+ }$d"
		done
	done
}

modinfo() {	# MODULE FIELD
	tr '\0' '\n' <"$1" | LC_ALL=C sed -n "s/^$2=//p"
}

module_needs() {
	modinfo "$1" depends | tr ',-' ' _'
	for alias in $(modinfo "$1" softdep | sed -n 's/^pre: *//p'); do
		provider "$alias"
	done
}

# The module of the kernel's crypto folder that has the alias $1; none if that is built in.
provider() {
	find "$tmp/kernel" -path '*/kernel/crypto/*.ko*' | while read -r f; do
		if plain "$f" | tr '\0' '\n' | LC_ALL=C grep -aqxF "alias=$1"; then
			basename "${f%.ko*}" | tr - _
		fi
	done
}

# Modules are compressed since Debian 13.
plain() {
	case $1 in
	*.xz) xz -dc "$1" ;;
	*) cat "$1" ;;
	esac
}

# Module names are spelt with '_', their files with '_' or '-'.
unpack_module() {
	[ ! -e "$new/modules/$1.ko" ] || return 0
	pattern=$(echo "$1" | sed 's/_/[-_]/g')
	file=$(find "$tmp/kernel" -name "$pattern.ko*" | head -n 1)
	[ -n "$file" ] || die "module $1 is not in $kernel"
	plain "$file" >"$new/modules/$1.ko"
}
