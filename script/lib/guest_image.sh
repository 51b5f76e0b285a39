# SPDX-License-Identifier: Apache-2.0
# The kernel and the initramfs that guests boot. Source it after log.sh, cache.sh, debs.sh.
#
# $CACHE/guest/current/{vmlinuz,initramfs.img} is what is used; it is a link to a folder named after the recipe's
# content, so that checkouts with different recipes share one cache. docs/guest.md tells what the image holds.

GUEST_SUITE=bookworm

# list_entries FILE: its lines without comments.
list_entries() {
  sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$1"
}

# install_guest_image: leaves $CACHE/guest/current, building what is missing.
install_guest_image() {
  local userland stamp
  userland=$CACHE/userland-$(content_hash "$ROOT/guest/packages.list" "$LIB/debs.sh")
  stamp=$(content_hash "$ROOT"/guest/* "$LIB/guest_image.sh" "$LIB/stub_library.py")
  if [ ! -e "$CACHE/guest/$stamp/initramfs.img" ]; then
    [ -d "$userland" ] || bring_userland "$userland"
    say "building the guest image $stamp"
    build_guest_image "$userland" "$CACHE/guest/$stamp.new"
    replace_dir "$CACHE/guest/$stamp.new" "$CACHE/guest/$stamp"
    say "guest image: kernel $(cat "$CACHE/guest/$stamp/release"), initramfs $(du -h "$CACHE/guest/$stamp/initramfs.img" | cut -f1)"
    forget_old 4 "$CACHE/guest"/*/
  fi
  if [ "$(readlink "$CACHE/guest/current" 2>/dev/null)" != "$stamp" ]; then
    ln -sfn "$stamp" "$CACHE/guest/.current.new"
    mv -T -- "$CACHE/guest/.current.new" "$CACHE/guest/current"
  fi
}

# bring_userland DIR: the packages the image is made of, unpacked.
bring_userland() {
  local packages
  mapfile -t packages < <(list_entries "$ROOT/guest/packages.list")
  say "bringing the guest's kernel and programs from $GUEST_SUITE into $CACHE (about 100 MB)"
  rm -rf -- "$1.new" "$1.new".apt.*
  unpack_debs "$1.new" "$GUEST_SUITE" "${packages[@]}"
  replace_dir "$1.new" "$1"
  forget_old 2 "$CACHE"/userland-*/
}

# build_guest_image USERLAND OUT: makes the folder OUT with vmlinuz, initramfs.img and release.
build_guest_image() {
  local userland=$1 out=$2 root release
  rm -rf -- "$out"
  mkdir -p "$out/stubs"
  root=$out/root
  release=$(basename "$userland"/lib/modules/*)
  printf '%s\n' "$release" >"$out/release"
  cp "$userland/boot/vmlinuz-$release" "$out/vmlinuz"

  mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,usr/share/misc,lib/x86_64-linux-gnu,lib64,etc,dev,proc,sys,run,tmp,mnt,root}
  cp "$ROOT/guest/init" "$root/init"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\n' >"$root/etc/group"
  ln -s /proc/mounts "$root/etc/mtab"
  add_busybox "$userland" "$root"
  add_programs "$userland" "$root" "$out/stubs"
  add_modules "$userland" "$root" "$release"
  g++ -std=c++20 -O2 -static -s -Wall -Wextra -Werror -o "$root/sbin/lanepool-guest-exec" "$ROOT/guest/exec_service.cc" ||
    die "guest/exec_service.cc does not compile" "see the messages above"

  # Not compressed: under TCG unpacking costs more than loading. Fixed times and owners make the image reproducible.
  find "$root" -exec touch -h -d @0 {} +
  (cd "$root" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
    cpio --quiet --null --create --format=newc --owner=+0:+0 --reproducible) >"$out/initramfs.img"
  rm -rf -- "$root" "$out/stubs"
}

add_busybox() {
  local userland=$1 root=$2 applet
  cp "$userland/bin/busybox" "$root/bin/busybox"
  # These would stand before the real ones, or manage packages that are not there.
  "$root/bin/busybox" --list | grep -vxE 'busybox|mke2fs|dpkg|dpkg-deb|rpm|rpm2cpio' |
    while IFS= read -r applet; do ln -s busybox "$root/bin/$applet"; done
}

# add_programs USERLAND ROOT STUBS: the programs of guest/programs.list and every library they need.
add_programs() {
  local userland=$1 root=$2 stubs=$3 libdirs loader programs file library
  libdirs=$stubs:$userland/lib/x86_64-linux-gnu:$userland/usr/lib/x86_64-linux-gnu
  mapfile -t programs < <(list_entries "$ROOT/guest/programs.list")
  while IFS= read -r library; do
    python3 "$LIB/stub_library.py" "$(find "$userland"/{usr/,}lib/x86_64-linux-gnu -maxdepth 1 -name "$library" | head -n 1)" \
      "$stubs/$library" "$userland/usr/bin/fio" || die "no stub for $library" "see guest/stubs.list"
  done < <(list_entries "$ROOT/guest/stubs.list")
  # Not by its usual name in lib64, which is an absolute link: that would be this machine's loader.
  loader=$userland/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
  cp "$loader" "$root/lib64/"
  for file in "${programs[@]}"; do
    [ -e "$userland$file" ] || die "$file is in none of the packages" "see guest/programs.list and guest/packages.list"
    cp -P "$userland$file" "$root$file"
    [ ! -L "$userland$file" ] && head -c 4 "$userland$file" | grep -q ELF || continue
    "$loader" --library-path "$libdirs" --list "$userland$file" |
      sed -n 's/^\t\([^/ ]*\) => \([^ ]*\) .*/\1 \2/p' >"$stubs/needed" || die "the libraries of $file cannot be found"
    while read -r library found; do
      # A library of this machine would be of another version than the guest's C library.
      case $found in
        "$userland"/* | "$stubs"/*) cp -L "$found" "$root/lib/x86_64-linux-gnu/$library" ;;
        *) die "$file needs $library, which is in none of the packages" "add its package to guest/packages.list" ;;
      esac
    done <"$stubs/needed"
  done
}

# add_modules USERLAND ROOT RELEASE: the modules of guest/modules.list and all they depend on.
add_modules() {
  local userland=$1 root=$2 release=$3 modules=lib/modules/$3 name files file
  # busybox is static, so its depmod runs here whatever this machine's C library is.
  "$userland/bin/busybox" depmod -b "$userland" "$release"
  while IFS= read -r name; do
    # A line of modules.dep is "path/of/module.ko: what it needs ...". Names take - and _ for the same.
    files=$(awk -v want="${name//-/_}" '{ n = $1; sub(/.*\//, "", n); sub(/\.ko.*/, "", n); gsub(/-/, "_", n) }
      n == want { sub(/:/, ""); print; exit }' "$userland/$modules/modules.dep")
    [ -n "$files" ] || die "the kernel $release has no module $name" "see guest/modules.list"
    for file in $files; do
      mkdir -p "$root/$modules/${file%/*}"
      cp "$userland/$modules/$file" "$root/$modules/$file"
    done
  done < <(list_entries "$ROOT/guest/modules.list")
  cp "$userland/$modules"/modules.{builtin,builtin.modinfo,order} "$root/$modules/"
  "$userland/bin/busybox" depmod -b "$root" "$release"
}
