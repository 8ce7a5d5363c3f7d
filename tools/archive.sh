# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# shellcheck disable=SC2154 # the caller sets cache
# Sourced by the scripts that fetch packages of Debian without installing them: apt on private
# directories in $cache/apt-$arch, as any user, the archive's signature checked with the installed
# keyring. The caller sets cache, and has say and die.

# The archive's name comes from this machine's apt, whatever file and format it was written in.
# shellcheck disable=SC2016 # apt expands these, not the shell
archive_mirror() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk '$3 == "main" && $1 !~ /^cdrom:/ &&
			$2 ~ /^(bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)$/ {
				print $1
				exit
			}'
}

archive_keyring() {
	for k in /usr/share/keyrings/debian-archive-keyring.pgp \
		/usr/share/keyrings/debian-archive-keyring.gpg; do
		if [ -r $k ]; then
			echo $k
			return
		fi
	done
	die "no Debian archive keyring; 'apt-get install debian-archive-keyring' installs it"
}

# archive_open ARCHITECTURE [SUITE]: then archive_get and archive_cache are apt-get and apt-cache on
# it. Debian 13 unless another suite is named.
archive_open() {
	arch=$1
	suite=${2:-trixie}
	apt=$cache/apt-$arch${2:+-$2}
	uri=${VIADUCT_MIRROR:-$(archive_mirror)}
	[ -n "$uri" ] ||
		die "no Debian archive in this machine's apt configuration; set VIADUCT_MIRROR=URI"
	mkdir -p "$apt/lists/partial" "$apt/archives/partial"
	keyring=$(archive_keyring) || exit 1
	echo "deb [signed-by=$keyring] $uri $suite main" >"$apt/sources.list"
	cat >"$apt/apt.conf" <<-END
		#clear APT::Architectures;
		#clear APT::Update;
		#clear DPkg;
		APT::Architecture "$arch";
		APT::Architectures { "$arch"; };
		APT::Install-Recommends "false";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "2";
		Debug::NoLocking "1";
		Dir::Cache "$apt";
		Dir::Cache::archives "$apt/archives";
		Dir::Etc::SourceList "$apt/sources.list";
		Dir::Etc::SourceParts "/dev/null";
		Dir::Etc::Preferences "/dev/null";
		Dir::Etc::PreferencesParts "/dev/null";
		Dir::State::Lists "$apt/lists";
		Dir::State::status "/dev/null";
	END
	say "asking the archive for Debian's $suite, $arch"
	archive_get update || die 'the archive cannot be reached (see above)'
	rm -f "$apt/archives/"*.deb
}

archive_get() {
	# Simple progress lines where nobody watches a terminal.
	quiet=
	[ -t 1 ] || quiet=-q
	apt-get -c "$apt/apt.conf" $quiet "$@"
}

archive_cache() {
	apt-cache -c "$apt/apt.conf" "$@"
}
