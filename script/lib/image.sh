# SPDX-License-Identifier: Apache-2.0
# Pieces that the file systems of guests and of whole hosts are put together from. Source it after log.sh.

# list_entries FILE...: their lines without comments.
list_entries() {
  sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' -- "$@"
}

# make_root ROOT: the folders, the first process and the exec service.
make_root() {
  local root=$1
  mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,usr/share/misc,lib/x86_64-linux-gnu,lib64,etc,dev,proc,sys,run,tmp,mnt,root}
  cp "$ROOT/guest/init" "$root/init"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\n' >"$root/etc/group"
  ln -s /proc/mounts "$root/etc/mtab"
  g++ -std=c++20 -O2 -static -s -Wall -Wextra -Werror -o "$root/sbin/lanepool-guest-exec" "$ROOT/guest/exec_service.cc" ||
    die "guest/exec_service.cc does not compile" "see the messages above"
}

# pack_root ROOT: prints the archive that the kernel unpacks.
pack_root() {
  # Not compressed: under TCG unpacking costs more than loading. Fixed times and owners make the image reproducible.
  find "$1" -exec touch -h -d @0 {} +
  (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
    cpio --quiet --null --create --format=newc --owner=+0:+0 --reproducible)
}

add_busybox() {
  local userland=$1 root=$2 applet
  cp "$userland/bin/busybox" "$root/bin/busybox"
  # These would stand before the real ones, or manage packages that are not there.
  "$root/bin/busybox" --list | grep -vxE 'busybox|mke2fs|dpkg|dpkg-deb|rpm|rpm2cpio' |
    while IFS= read -r applet; do ln -s busybox "$root/bin/$applet"; done
}

# add_programs USERLAND ROOT STUBS LIST...: the programs that the lists name, and every library they need.
add_programs() {
  local userland=$1 root=$2 stubs=$3 libdirs loader programs file library
  shift 3
  libdirs=$stubs:$userland/lib/x86_64-linux-gnu:$userland/usr/lib/x86_64-linux-gnu
  mapfile -t programs < <(list_entries "$@")
  while IFS= read -r library; do
    python3 "$LIB/stub_library.py" "$(find "$userland"/{usr/,}lib/x86_64-linux-gnu -maxdepth 1 -name "$library" | head -n 1)" \
      "$stubs/$library" "$userland/usr/bin/fio" || die "no stub for $library" "see guest/stubs.list"
  done < <(list_entries "$ROOT/guest/stubs.list")
  # Not by its usual name in lib64, which is an absolute link: that would be this machine's loader.
  loader=$userland/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
  cp "$loader" "$root/lib64/"
  for file in "${programs[@]}"; do
    [ -e "$userland$file" ] || [ -L "$userland$file" ] || die "$file is in none of the packages" "see the lists in guest/"
    # A link of busybox's may stand there: it is replaced, not followed.
    mkdir -p "$root${file%/*}"
    cp -P --remove-destination "$userland$file" "$root$file"
    [ ! -L "$userland$file" ] && head -c 4 "$userland$file" | grep -q ELF || continue
    "$loader" --library-path "$libdirs" --list "$userland$file" |
      sed -n 's/^\t\([^/ ]*\) => \([^ ]*\) .*/\1 \2/p' >"$stubs/needed" || die "the libraries of $file cannot be found"
    while read -r library found; do
      # A library of this machine would be of another version than the guest's C library.
      case $found in
        "$userland"/* | "$stubs"/*) cp -L "$found" "$root/lib/x86_64-linux-gnu/$library" ;;
        *) die "$file needs $library, which is in none of the packages" "add its package to the list in guest/" ;;
      esac
    done <"$stubs/needed"
  done
}

# depmod_with ROOT TREE RELEASE: indexes the modules below TREE with the image's own depmod: kmod's modprobe reads
# only what kmod's depmod has written.
depmod_with() {
  local root=$1 tree=$2 release=$3
  if [ -e "$root/bin/kmod" ]; then
    "$root/lib64/ld-linux-x86-64.so.2" --argv0 depmod --library-path "$root/lib/x86_64-linux-gnu" \
      "$root/bin/kmod" -b "$tree" "$release"
  else
    # It is static, so it runs here whatever this machine's C library is.
    "$root/bin/busybox" depmod -b "$tree" "$release"
  fi
}

# add_modules KERNEL ROOT RELEASE LIST...: the modules that the lists name and all they depend on, of the kernel
# unpacked in KERNEL, not compressed. A name that is built into that kernel needs nothing. Add the programs before.
add_modules() {
  local kernel=$1 root=$2 release=$3 modules=lib/modules/$3 name files file
  shift 3
  depmod_with "$root" "$kernel" "$release"
  while IFS= read -r name; do
    # A line of modules.dep is "path/of/module.ko: what it needs ...". Names take - and _ for the same.
    files=$(awk -v want="${name//-/_}" '{ n = $1; sub(/.*\//, "", n); sub(/\.ko.*/, "", n); gsub(/-/, "_", n) }
      n == want { sub(/:/, ""); print; exit }' "$kernel/$modules/modules.dep")
    [ -n "$files" ] || grep -qE "/${name//[-_]/[-_]}[.]ko$" "$kernel/$modules/modules.builtin" ||
      die "the kernel $release has no module $name" "see the lists in guest/"
    for file in $files; do
      mkdir -p "$root/$modules/${file%/*}"
      case $file in
        *.xz) xz -dc "$kernel/$modules/$file" >"$root/$modules/${file%.xz}" ;;
        *) cp "$kernel/$modules/$file" "$root/$modules/$file" ;;
      esac
    done
  done < <(list_entries "$@")
  cp "$kernel/$modules"/modules.{builtin,builtin.modinfo} "$root/$modules/"
  sed 's/[.]xz$//' "$kernel/$modules/modules.order" >"$root/$modules/modules.order"
  depmod_with "$root" "$root" "$release"
}
