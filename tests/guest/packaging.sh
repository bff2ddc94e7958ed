#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What is installed, packed and shipped: that it is whole, that it works from
# where it is put, and the names that udev gives our disks.
. "$(dirname "$0")/lib.sh"

version=$(sed -n 's/^#define UBD_VERSION "\(.*\)"$/\1/p' "$top/include/ubd/version.h")
release=$(modinfo -F vermagic "$release_module" 2>/dev/null | cut -d ' ' -f 1)
base=$top/build/busybox.img
# A make around us has its own opinions; root's own rights are not needed.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES PREFIX DESTDIR MODDIR DOCDIR PARTS PACKAGES
ordinary=()
[ "$(id -u)" != 0 ] || ordinary=(setpriv --bounding-set=-all --inh-caps=-all)

# modes DIRECTORY: of all that is in it
modes() {
	(cd "$1" && find . '(' -type d -printf '%m %P/\n' ')' -o -printf '%m %P\n') | sort -k 2
}

# no_files DIRECTORY
no_files() {
	local left

	left=$(find "$1" ! -type d)
	[ -z "$left" ] || fail "is left: $left"
}

# works_from PREFIX: what `make install` put there
works_from() {
	local program name

	# Without blanks.
	ln -sfn "$1" prefix
	set -- "$work/prefix"
	for program in "$1"/bin/*; do
		name=${program##*/}
		expect_eq "$name --version" "$("$program" --version)" "$name $version"
		[ -e "$1/share/man/man1/$name.1.gz" ] || fail "$name has no manual page"
	done
	for program in "$1"/share/man/man*/*.gz; do
		expect_eq "release in ${program##*/}" \
			"$(gzip -dc "$program" | sed -n 's/^\.TH .* [0-9-]* "\(.*\)" ".*"$/\1/p')" "ubd $version"
	done
	cmp "$1/lib/modules/$release/updates/ubd.ko" "$release_module" || fail "another module"
	expect_eq 'version of the module' "$(modinfo -F version "$1/lib/modules/$release/updates/ubd.ko")" "$version"
	"$1/lib/ubd/initramfs.sh" initramfs "$1/lib/ubd/init" "$1/lib/modules/$release/updates/ubd.ko"
	cmp initramfs "$top/build/initramfs.cpio.gz" || fail "initramfs.sh makes another initramfs where it is installed"
}

test_install() {
	local name

	(umask 077 && "${ordinary[@]}" make -s -C "$top" install "DESTDIR=$work/a stage" PREFIX=/usr) >out
	{
		for name in '' bin/ lib/ lib/modules/ "lib/modules/$release/" "lib/modules/$release/updates/" lib/ubd/ lib/udev/ \
			lib/udev/rules.d/ share/ share/doc/ share/doc/ubd/ share/doc/ubd/Documentation/ share/man/ share/man/man1/ \
			share/man/man4/; do
			echo "755 usr/$name"
		done
		echo "644 usr/lib/modules/$release/updates/ubd.ko"
		for name in ubd-cow ubd-report ubd-top; do
			echo "755 usr/bin/$name"
			echo "644 usr/share/man/man1/$name.1.gz"
		done
		echo '644 usr/share/man/man4/ubd.4.gz'
		echo '644 usr/lib/udev/rules.d/60-ubd.rules'
		echo '755 usr/lib/ubd/init'
		echo '755 usr/lib/ubd/gen_init_cpio'
		echo '755 usr/lib/ubd/initramfs.sh'
		echo '644 usr/share/doc/ubd/README.md'
		for name in "$top"/Documentation/*.{md,svg}; do
			echo "644 usr/share/doc/ubd/Documentation/${name##*/}"
		done
	} | sort -k 2 >want
	modes 'a stage' | sed '/^[0-7]* \/$/d' >got
	diff want got || fail 'other files are installed than should be'
	diff -r -x man "$top/Documentation" 'a stage/usr/share/doc/ubd/Documentation' || fail 'other documents are installed'
	cmp "$top/tools/udev/60-ubd.rules" 'a stage/usr/lib/udev/rules.d/60-ubd.rules'
	works_from "$work/a stage/usr"
	"${ordinary[@]}" make -s -C "$top" uninstall "DESTDIR=$work/a stage" PREFIX=/usr >>out
	no_files 'a stage'
	[ ! -e "a stage/usr/lib/modules/$release" ] || fail 'directories of ours are left'
}

# Not staged: modprobe finds it; what others have there stays.
test_install_here() {
	local modules=$work/here/lib/modules/$release

	make -s -C "$top" install "PREFIX=$work/here" >out
	works_from "$work/here"
	modprobe -d "$work/here" -S "$release" --show-depends ubd >depends || fail 'modprobe does not find it'
	grep -qF "$modules/updates/ubd.ko" depends || fail "modprobe finds another: $(cat depends)"
	mkdir "$modules/kernel"
	cp "$top/build/ubd_test.ko" "$modules/kernel/other.ko"
	make -s -C "$top" uninstall "PREFIX=$work/here" >>out
	[ -e "$modules/kernel/other.ko" ] || fail 'a module of others is gone'
	grep -q other.ko "$modules/modules.dep" || fail 'depmod was not run'
	! grep -q updates/ubd.ko "$modules/modules.dep" || fail 'depmod was not run: it still knows ubd.ko'
	rm -r "$modules"

	make -s -C "$top" install "PREFIX=$work/here" MODDIR="$work/here/elsewhere" PARTS='module udev' >>out
	expect_eq 'what is there' "$(cd here && find . -type f | sort | tr '\n' ' ')" \
		'./elsewhere/ubd.ko ./lib/udev/rules.d/60-ubd.rules '
	make -s -C "$top" uninstall "PREFIX=$work/here" MODDIR="$work/here/elsewhere" PARTS='module udev' >>out
	make -s -C "$top" install "PREFIX=$work/here" >>out
	make -s -C "$top" uninstall "PREFIX=$work/here" >>out
	no_files here
	[ ! -e "$modules" ] || fail 'directories of ours are left'
}

# Nothing is built: it says so, and nothing is installed by half.
test_install_unbuilt() {
	local got=0

	mkdir unbuilt
	cp -r "$top"/{Makefile,README.md,Documentation,include,drivers,Kbuild,LICENSE,tools} unbuilt
	mkdir unbuilt/build
	cp "$top"/build/{ubd.ko,ubd-cow,ubd-top,ubd-report} unbuilt/build
	make -s -C unbuilt install "DESTDIR=$work/stage" >out 2>&1 || got=$?
	cat out
	[ "$got" != 0 ] || fail 'it went well'
	grep -q "^ubd: no build/man/.*: run 'make'" out || fail 'it does not say what is missing'
	[ ! -e stage ] || fail 'a part was installed'
	rm unbuilt/build/ubd.ko
	! make -s -C unbuilt install "DESTDIR=$work/stage" >out 2>&1 || fail 'it went well without a module'
	expect_eq 'what it says without a module' "$(grep -v '^make:' out)" "ubd: no build/ubd.ko: run 'make'"
	! make -s -C unbuilt install "DESTDIR=$work/stage" PARTS='man things' >out 2>&1 || fail 'it went well with odd parts'
	grep -q "^ubd: no such part: things" out || fail 'it does not say which part there is not'
	[ ! -e stage ] || fail 'a part was installed'
}

# The commands of the README, word for word.
readme_install() {
	sed -n '/^## Install/,/^## [^I]/s/^\tmake/make/p' "$top/README.md"
}

# root_image: one of our own, in which /test is the script from stdin
root_image() {
	[ -e "$base" ] || fail "no build/busybox.img; make"
	cp --sparse=always "$base" root.img
	chmod u+w root.img
	cat >script
	debugfs -w -f - root.img >/dev/null 2>&1 <<-EOF
		write script test
		set_inode_field test mode 0100755
	EOF
}

# boot NAME WORD...: the first word is a kernel; to the guest's end
boot() {
	local name=$1

	shift
	sockets=$(mktemp -d "${TMPDIR:-/tmp}/ubd-test.XXXXXX")
	guest_directory[$name]=$sockets
	"$@" con=null con0=fd:0,fd:1 "uml_dir=$sockets" "umid=$name" init=/test </dev/null >"$name.log" 2>&1 &
	guest_pid[$name]=$!
	guest_wait "$name"
	expect_eq "status of $name" "$status" 0
	expect_once "$name" "^ubd: version $version$"
	expect_once "$name" 'test: all is well'
}

# unpacked PACKAGE ARCHITECTURE: into the directory all, and looks at it
unpacked() {
	local deb=packages/$1_${version}-0ubd1_$2.deb
	local date

	date=$([ -e "$top/.git" ] && git -C "$top" log -1 --format=%ct || stat -c %Y "$top/include/ubd/version.h")
	[ -e "$deb" ] || fail "no package $deb, but $(ls packages)"
	dpkg-deb -x "$deb" all
	dpkg-deb -x "$deb" "one/$1"
	dpkg-deb -e "$deb" "control/$1"
	(cd all && md5sum -c --quiet "../control/$1/md5sums") || fail "$1: the sums are others"
	expect_eq "$1: files with sums" "$(wc -l <"control/$1/md5sums")" "$(find "one/$1" -type f | wc -l)"
	expect_eq "$1: owners" "$(dpkg-deb -c "$deb" | awk '{ print $2 }' | sort -u)" root/root
	expect_eq "$1: newest file" "$(find "one/$1" -newermt "@$date")" ''
	expect_eq "$1: version" "$(dpkg-deb -f "$deb" Version)" "$version-0ubd1"
	expect_eq "$1: changes" "$(gzip -dc "all/usr/share/doc/$1/changelog.gz")" "$(cat "$top/Documentation/CHANGELOG.md")"
}

property[packages]=alone
test_packages() {
	local line

	export DEBFULLNAME='ubd maintainers' DEBEMAIL=ubd@lists.example.net
	# Quicker than xz.
	export DPKG_DEB_COMPRESSOR_TYPE=gzip DPKG_DEB_COMPRESSOR_LEVEL=1
	readme_install >commands
	expect_eq 'commands in README' "$(wc -l <commands)" 5
	while read -r line; do
		echo "$line"
		[[ $line != 'make dist '* ]] || git -C "$top" rev-parse -q --verify HEAD >/dev/null 2>&1 || continue
		(cd "$top" && HOME=$work/home UBD_CACHE=$cache "${ordinary[@]}" bash -e -c "$line") >out 2>&1 </dev/null ||
			fail "$line: $(cat out)"
		case $line in
		'make install PREFIX=$HOME/.local '*) works_from "$work/home/.local" ;;
		'make uninstall '*) no_files home ;;
		*DESTDIR=build/stage*) works_from "$top/build/stage/usr" ;;
		'make deb '*) cp -r "$top/build/package" packages ;;
		'make dist '*) [ -e "$top/build/ubd-$version.tar.xz" ] || fail 'there is no archive' ;;
		*) fail "what does this do: $line" ;;
		esac
	done <commands
	rm -r "$top/build/stage"

	mkdir control one all
	unpacked ubd-tools amd64
	unpacked ubd-udev all
	unpacked ubd-dkms all
	unpacked "ubd-modules-$release" amd64
	unpacked ubd-linux amd64
	expect_eq 'packages' "$(ls packages | wc -l)" 5
	(cd one && find . -type f ! -path '*/share/doc/*' ! -path '*/usr/src/*' ! -path '*/usr/bin/ubd-*' \
		! -path '*/man1/ubd-*' | sort) >got
	diff - got <<-EOF || fail 'other files are packed than should be'
		./ubd-linux/usr/bin/linux.ubd
		./ubd-linux/usr/lib/ubd/initramfs.cpio.gz
		./ubd-linux/usr/lib/ubd/linux
		./ubd-linux/usr/share/lintian/overrides/ubd-linux
		./ubd-linux/usr/share/man/man1/linux.ubd.1.gz
		./ubd-modules-$release/usr/lib/modules/$release/updates/ubd.ko
		./ubd-tools/usr/lib/ubd/gen_init_cpio
		./ubd-tools/usr/lib/ubd/init
		./ubd-tools/usr/lib/ubd/initramfs.sh
		./ubd-tools/usr/share/lintian/overrides/ubd-tools
		./ubd-tools/usr/share/man/man4/ubd.4.gz
		./ubd-udev/usr/lib/udev/rules.d/60-ubd.rules
	EOF
	expect_eq 'ubd-cow --version' "$(all/usr/bin/ubd-cow --version)" "ubd-cow $version"
	grep -q '^Depends: .*libstdc++6' control/ubd-tools/control || fail 'ubd-tools depends on no libstdc++'
	grep -q '^Built-Using: .*liburing (= ' "control/ubd-modules-$release/control" || fail 'it is not said which liburing is inside'

	# The same again: nothing of the time or the place is in them.
	(umask 027 && TZ=UTC+5 make -s -C "$top" deb "PACKAGES=$work/again") >out
	for line in packages/*.deb; do
		cmp "$line" "again/${line##*/}" || fail "$line is another each time"
	done

	# A guest of what is in the packages alone.
	root_image <<-EOF
		#!/bin/sh
		set -e
		mount -t proc proc /proc 2>/dev/null || true
		mount -t sysfs sysfs /sys 2>/dev/null || true
		grep -q "^/dev/ubda / ext4 " /proc/mounts
		grep -qx $version /sys/module/ubd/version
		grep -qx $version /sys/block/ubda/device/rev
		echo "test: all is well"
		poweroff -f
	EOF
	export PATH=$work/all/usr/bin:$PATH
	sed -n '/^## Install/,/^## [^I]/s/^\tlinux.ubd /linux.ubd /p' "$top/README.md" >guests
	sed -n '/^\.SH EXAMPLES/,/^\.SH SEE/s/^\(linux.ubd\|\/usr\/lib\/ubd\/linux\) /\1 /p' "$top/Documentation/man/linux.ubd.1" >>guests
	expect_eq 'guests in README and linux.ubd(1)' "$(wc -l <guests)" 3
	for line in 1 2 3; do
		# shellcheck disable=SC2046 # words
		boot "$line" $(sed -n "${line}p" guests | sed "s|/usr/lib/|$work/all/usr/lib/|g")
		[ -e my.cow ] || fail 'it made no COW file'
		rm my.cow
	done
	# The module as it was packed, in an initramfs that is made of packages.
	"all/usr/lib/ubd/initramfs.sh" initramfs all/usr/lib/ubd/init "all/usr/lib/modules/$release/updates/ubd.ko"
	boot four all/usr/lib/ubd/linux initrd=initramfs mem=128M ubd0=root.img root=/dev/ubda
}

# dkms builds what is in its package, for a kernel that is not this machine's,
# and for no other.
test_dkms() {
	local how=(-m ubd -v "$version" --sourcetree "$work/usr/src" --dkmstree "$work/dkms" --no-depmod)

	command -v dkms >/dev/null || fail 'no dkms; tools/setup.sh'
	DESTDIR=$work PREFIX=/usr "$top/tools/package/install.sh" install source >out
	[ ! -e usr/src/ubd-"$version"/tests ] || fail 'the tests are in it'
	mkdir dkms
	"${ordinary[@]}" dkms build "${how[@]}" -k "$release" --kernelsourcedir "$cache/release" >out 2>&1 ||
		fail "dkms build: $(cat out dkms/ubd/"$version"/build/make.log)"
	! grep -i 'warning' "dkms/ubd/$version/$release/$(uname -m)/log/make.log" || fail 'it builds with warnings'
	module=$(find "$work/dkms/ubd/$version/$release" -name 'ubd.ko*')
	[ -e "$module" ] || fail 'there is no module'
	expect_eq 'version of the module' "$(modinfo -F version "$module")" "$version"
	expect_eq 'kernel of the module' "$(modinfo -F vermagic "$module")" "$(modinfo -F vermagic "$release_module")"
	mkdir another
	echo 'CONFIG_X86=y' >another/.config
	! dkms build "${how[@]}" -k 6.12.0-amd64 --kernelsourcedir "$work/another" >out 2>&1 || fail 'it was built for another kernel'
	grep -q BUILD_EXCLUSIVE out || fail "it was not refused for its configuration: $(cat out)"
	guest one "ubd0=$(image a.img 64M)" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 8192 1
		"$tool" pattern check /dev/ubda 0 8192 1
		unload
	EOF
}

# The archive has all that is committed, is the same for everybody, and builds
# where no repository is.
test_dist() {
	local got=0

	git -C "$top" rev-parse -q --verify HEAD >/dev/null 2>&1 || skip 'this is no git repository, or one of somebody else'
	git clone -q -s --no-checkout "$top" clone
	git -C clone config core.sharedRepository 0600
	git -C clone checkout -q HEAD
	"$top/tools/package/dist.sh" "$work/first" 2>/dev/null
	(umask 077 && cd clone && TZ=UTC+5 LANG=C.UTF-8 XZ_DEFAULTS=-T2 tools/package/dist.sh "$work/second")
	cmp "first/ubd-$version.tar.xz" "second/ubd-$version.tar.xz" || fail 'it is another each time'
	tar -xf "first/ubd-$version.tar.xz"
	diff <(git -C "$top" ls-tree -r --name-only HEAD | sort) <(cd "ubd-$version" && find . -type f -printf '%P\n' | sort) ||
		fail 'it has other files than what is committed'
	cd "ubd-$version"
	# This directory may lie in a repository.
	export GIT_DIR=/nonexistent
	make -s dist >out 2>&1 || got=$?
	[ "$got" != 0 ] && grep -q '^ubd: no git repository here' out || fail "make dist without a repository: $(cat out)"
	# A kernel of somebody's: ours is not looked at.
	make -s modules "KDIR=$cache/./release" 2>&1
	module=$PWD/build/ubd.ko
	expect_eq 'version of the module' "$(modinfo -F version "$module")" "$version"
	guest one "ubd0=$(image a.img 64M)" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 8192 1
		"$tool" pattern check /dev/ubda 0 8192 1
		unload
	EOF
	expect_once one "^ubd: version $version$"
}

# with_udev LINK...: a guest's script with udev around the one from stdin. When
# the module is gone, only these links are left. systemd's rules are the host's.
with_udev() {
	command -v udevadm >/dev/null || fail 'no udevadm; tools/setup.sh'
	cat <<-'EOF'
		links() { (mkdir -p /dev/disk && cd /dev/disk && find . -type l -printf '%P\t%l\n') | sed 's|\.\./\.\./||' | sort; }
		mkdir -p /run/udev/rules.d
		cp "$top/tools/udev/60-ubd.rules" /run/udev/rules.d
		/lib/systemd/systemd-udevd --daemon
	EOF
	cat
	cat <<-EOF
		unload
		udevadm settle
		same 'links that are left' "\$(links | cut -f 1 | tr '\n' ' ')" '$*${1:+ }'
		udevadm control --exit
	EOF
}

test_udev() {
	sfdisk -q "$(image parts.img 64M)" <<-'EOF'
		label: gpt
		label-id: 00000000-2222-3333-4444-555555555555
		size=16M, uuid=11111111-2222-3333-4444-555555555555, name=first
		size=16M, uuid=22222222-2222-3333-4444-555555555555
	EOF
	mkfs.ext4 -q -U 33333333-2222-3333-4444-555555555555 -L label "$(image plain.img 16M)"
	image odd.img 8M >/dev/null
	with_udev <<-'EOF' >script
		load "\"device=ubd2=$work/odd.img,,../a%s/b c\""
		udevadm settle
		links | tr '\t' ' ' >"$work/links"
		lsblk -d -P -o NAME,MODEL,SERIAL,REV /dev/ubd[abc] >"$work/lsblk"
		udevadm test-builtin path_id /sys/block/ubdb >"$work/builtin" 2>&1
		udevadm info --query=property /dev/ubda1 >"$work/properties"
		mkdir -p $mnt/by-id
		mount /dev/disk/by-uuid/33333333-2222-3333-4444-555555555555 $mnt/by-id
		umount $mnt/by-id
	EOF
	guest one "ubd0=$work/parts.img,,NUMBER-0" "ubd1=$work/plain.img" <script
	diff - links <<-'EOF' || fail 'other links than should be'
		by-diskseq/1 ubda
		by-diskseq/2 ubdb
		by-diskseq/3 ubdc
		by-id/ubd-.._a_s_b_c ubdc
		by-id/ubd-NUMBER-0 ubda
		by-id/ubd-NUMBER-0-part1 ubda1
		by-id/ubd-NUMBER-0-part2 ubda2
		by-label/label ubdb
		by-partlabel/first ubda1
		by-partuuid/11111111-2222-3333-4444-555555555555 ubda1
		by-partuuid/22222222-2222-3333-4444-555555555555 ubda2
		by-path/platform-uml-blkdev.0 ubda
		by-path/platform-uml-blkdev.0-part1 ubda1
		by-path/platform-uml-blkdev.0-part2 ubda2
		by-path/platform-uml-blkdev.1 ubdb
		by-path/platform-uml-blkdev.2 ubdc
		by-uuid/33333333-2222-3333-4444-555555555555 ubdb
	EOF
	diff - lsblk <<-EOF || fail 'lsblk says something else'
		NAME="ubda" MODEL="UML ubd" SERIAL="NUMBER-0" REV="$version"
		NAME="ubdb" MODEL="UML ubd" SERIAL="" REV="$version"
		NAME="ubdc" MODEL="UML ubd" SERIAL="../a%s/b c" REV="$version"
	EOF
	grep -qx 'ID_PATH=platform-uml-blkdev.1' builtin || fail "path_id says: $(cat builtin)"
	grep -qx 'ID_SERIAL=NUMBER-0' properties || fail 'a partition has no serial'
	grep -qx 'ID_MODEL=UML_ubd' properties || fail 'a partition has no model'
}

# Beside the kernel's own driver, whose names systemd knows: ours have all of
# these, too, and its disks have their serials.
test_udev_beside() {
	sfdisk -q "$(image parts.img 64M)" <<-'EOF'
		label: gpt
		size=16M, uuid=11111111-2222-3333-4444-555555555555, name=first
	EOF
	mkfs.ext4 -q -U 33333333-2222-3333-4444-555555555555 -L label "$(image plain.img 16M)"
	use_compare
	with_udev by-diskseq/1 by-id/ubd-OWN by-path/platform-uml-blkdev.0 <<-'EOF' >script
		load "device=ubd0=$work/parts.img,,NUMBER-0" "device=ubd1=$work/plain.img"
		udevadm trigger --settle /sys/block/ubda
		udevadm settle
		links | tr '\t' ' ' | sed /diskseq/d >"$work/links"
		lsblk -d -P -o NAME,MODEL,SERIAL /dev/aubda /dev/ubda | sort >"$work/lsblk"
	EOF
	guest one "ubd0=$(image own.img 8M),,OWN" <script
	diff - links <<-'EOF' || fail 'other links than should be'
		by-id/ubd-NUMBER-0 aubda
		by-id/ubd-NUMBER-0-part1 aubda1
		by-id/ubd-OWN ubda
		by-label/label aubdb
		by-partlabel/first aubda1
		by-partuuid/11111111-2222-3333-4444-555555555555 aubda1
		by-path/platform-aubd.0 aubda
		by-path/platform-aubd.0-part1 aubda1
		by-path/platform-aubd.1 aubdb
		by-path/platform-uml-blkdev.0 ubda
		by-uuid/33333333-2222-3333-4444-555555555555 aubdb
	EOF
	diff - lsblk <<-'EOF' || fail 'lsblk says something else'
		NAME="aubda" MODEL="UML ubd" SERIAL="NUMBER-0"
		NAME="ubda" MODEL="" SERIAL="OWN"
	EOF
}

property[lintian]='full alone'
test_lintian() {
	command -v lintian >/dev/null || fail 'no lintian; make setup-package'
	export DEBFULLNAME='ubd maintainers' DEBEMAIL=ubd@lists.example.net
	make -s -C "$top" deb "PACKAGES=$work/packages" >out
	lintian --fail-on error,warning --tag-display-limit 0 packages/*.deb 2>&1 | tee complaints
	[ "${PIPESTATUS[0]}" = 0 ] || fail 'lintian complains'
}

# A Debian guest gets what is for it by apt, and has the names at once; without
# the packages all is as it was.
property[debian]='full alone'
limit[debian]=600
test_debian() {
	[ "$(id -u)" = 0 ] || unshare -Ur true 2>/dev/null || skip 'no Debian root can be made here: no user namespaces'
	"$top/tools/rootfs/debian.sh" || fail 'no Debian root was made'
	# The README's line: its shell ends with what it reads.
	grep -q '^	make run DISTRO=debian ' "$top/README.md" || fail 'README has another line'
	TIMEOUT=120 make -s -C "$top" run DISTRO=debian </dev/null >booted 2>&1 || fail "status $?: $(tail booted)"
	grep -aq 'Debian GNU/Linux' booted && grep -aq 'Power down' booted || fail "$(tail booted)"
	make -s -C "$top" deb "PACKAGES=$work/packages" >out
	mke2fs -q -F -t ext4 -d packages packages.img 32M
	"$top/build/ubd-cow" create root.cow "$cache/debian.img"
	cat >script <<-EOF
		set -e
		mkdir /packages
		mount /dev/ubdc /packages
		cd /packages
		apt-get install -q -y ./ubd-udev_*.deb ./ubd-modules-*.deb ./ubd-tools_*.deb
		modinfo -F filename ubd
		udevadm settle
		readlink /dev/disk/by-id/ubd-PACKAGES
		lsblk -d -n -o MODEL,SERIAL /dev/ubdc
		ubd-cow --version
		apt-get remove -q -y ubd-udev ubd-modules-\$(uname -r) ubd-tools
		udevadm settle
		[ ! -e /dev/disk/by-id/ubd-PACKAGES ]
		[ ! -e /lib/modules ] || find /lib/modules -type f
		echo all is well
	EOF
	env -u COW ROOTFS="$work/root.cow" MEM=512M TIMEOUT=200 CMD="$(cat script)" ARGS="ubd2=$work/packages.img,,PACKAGES" \
		"$top/tools/run.sh" 2>stderr | tee said || fail "ended with status $?: $(cat stderr)"
	for line in "/lib/modules/$release/updates/ubd.ko" ../../ubdc 'UML ubd PACKAGES' "ubd-cow $version" 'all is well'; do
		grep -qx -- "$line *" said || fail "the guest does not say: $line"
	done
	expect_eq 'modules that are left' "$(sed -n '/^Removing/,$p' said | grep '^/lib/modules' || true)" ''
}

run_tests "$@"
