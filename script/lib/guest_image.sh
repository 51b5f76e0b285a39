# SPDX-License-Identifier: Apache-2.0
# The kernel and the initramfs that guests boot. Source it after log.sh, cache.sh, debs.sh, image.sh.
#
# $CACHE/guest/current/{vmlinuz,initramfs.img} is what is used; it is a link to a folder named after the recipe's
# content, so that checkouts with different recipes share one cache. docs/guest.md tells what the image holds.

GUEST_SUITE=bookworm

# install_guest_image: leaves $CACHE/guest/current, building what is missing.
install_guest_image() {
  local userland stamp
  userland=$CACHE/userland-$(content_hash "$ROOT/guest/packages.list" "$LIB/debs.sh")
  stamp=$(content_hash "$ROOT"/guest/{*.list,init,*.cc} "$LIB"/{image,guest_image}.sh "$LIB/stub_library.py")
  if [ ! -e "$CACHE/guest/$stamp/initramfs.img" ]; then
    [ -d "$userland" ] || bring_userland "$userland"
    say "building the guest image $stamp"
    build_guest_image "$userland" "$CACHE/guest/$stamp.new"
    replace_dir "$CACHE/guest/$stamp.new" "$CACHE/guest/$stamp"
    say "guest image: kernel $(cat "$CACHE/guest/$stamp/release"), initramfs $(du -h "$CACHE/guest/$stamp/initramfs.img" | cut -f1)"
    forget_old 4 "$CACHE/guest"/*/
  fi
  point_link "$CACHE/guest/current" "$stamp"
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
  local userland=$1 out=$2 release
  release=$(basename "$userland"/lib/modules/*)
  rm -rf -- "$out"
  mkdir -p "$out/stubs"
  printf '%s\n' "$release" >"$out/release"
  cp "$userland/boot/vmlinuz-$release" "$out/vmlinuz"

  make_root "$out/root"
  add_busybox "$userland" "$out/root"
  add_programs "$userland" "$out/root" "$out/stubs" "$ROOT/guest/programs.list"
  add_modules "$userland" "$out/root" "$release" "$ROOT/guest/modules.list"
  pack_root "$out/root" >"$out/initramfs.img"
  rm -rf -- "$out/root" "$out/stubs"
}
