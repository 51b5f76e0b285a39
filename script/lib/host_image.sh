# SPDX-License-Identifier: Apache-2.0
# The kernels and file systems that whole hosts boot: Debian's generic kernels, as a server has them. Source it after
# log.sh, cache.sh, debs.sh, image.sh.
#
# $CACHE/hosts/VERSION/{vmlinuz,vmlinux,initramfs.img,release} is what is used; as with guests it is a link to a folder that is
# named after the recipe's content. docs/whole-hosts.md tells what they hold.

# The version that stands in the folder's name, and the suites that have it (the last is preferred).
HOST_KERNELS=('6.1 bookworm' '6.12 bookworm,bookworm-backports')
HOST_PACKAGE=linux-image-amd64

# install_host_images: leaves $CACHE/hosts/{6.1,6.12}, building what is missing.
install_host_images() {
  local entry version suites userland kernel stamp image
  userland=$CACHE/host-userland-$(content_hash "$ROOT/guest/host/packages.list" "$LIB/debs.sh")
  for entry in "${HOST_KERNELS[@]}"; do
    read -r version suites <<<"$entry"
    kernel=$CACHE/host-kernel-$version-$(printf '%s %s\n' "$suites" "$HOST_PACKAGE" | sha256sum | cut -c1-16)
    stamp=$version-$(content_hash "$ROOT"/guest/{init,exec_service.cc,programs.list,stubs.list} "$ROOT"/guest/host/*.list \
      "$LIB"/{image,host_image,debs}.sh "$LIB"/{stub_library,unpack_kernel}.py)
    image=$CACHE/hosts/$stamp
    if [ ! -e "$image/initramfs.img" ]; then
      [ -d "$userland" ] || bring_host_part "$userland" bookworm $(list_entries "$ROOT/guest/host/packages.list")
      [ -d "$kernel" ] || bring_host_part "$kernel" "$suites" "$HOST_PACKAGE"
      say "building the image of whole hosts $stamp"
      build_host_image "$userland" "$kernel" "$version" "$image.new"
      replace_dir "$image.new" "$image"
      say "whole hosts: kernel $(cat "$image/release"), initramfs $(du -h "$image/initramfs.img" | cut -f1)"
      forget_old 3 "$CACHE/hosts/$version"-*/
    fi
    point_link "$CACHE/hosts/$version" "$stamp"
  done
}

# bring_host_part DIR SUITES PACKAGE...: packages, unpacked into DIR.
bring_host_part() {
  local dir=$1 suites=$2
  shift 2
  say "bringing $* from $suites into $CACHE"
  mkdir -p "$CACHE/hosts"
  rm -rf -- "$dir.new" "$dir.new".apt.*
  unpack_debs "$dir.new" "$suites" "$@"
  replace_dir "$dir.new" "$dir"
  forget_old 2 "${dir%-*}"-*/
}

# build_host_image USERLAND KERNEL VERSION OUT: makes the folder OUT with vmlinuz, vmlinux, initramfs.img and release.
build_host_image() {
  local userland=$1 kernel=$2 version=$3 out=$4 release
  release=$(basename "$kernel"/lib/modules/*)
  [[ $release == "$version".* ]] || die "$HOST_PACKAGE brought the kernel $release, not $version" "see script/lib/host_image.sh"
  rm -rf -- "$out"
  mkdir -p "$out/stubs"
  printf '%s\n' "$release" >"$out/release"
  cp "$kernel/boot/vmlinuz-$release" "$out/vmlinuz"
  python3 "$LIB/unpack_kernel.py" "$out/vmlinuz" "$out/vmlinux" || die "the kernel $release cannot be unpacked"
  make_root "$out/root"
  add_busybox "$userland" "$out/root"
  add_programs "$userland" "$out/root" "$out/stubs" "$ROOT"/guest/programs.list "$ROOT"/guest/host/programs.list
  add_modules "$kernel" "$out/root" "$release" "$ROOT/guest/host/modules.list"
  pack_root "$out/root" >"$out/initramfs.img"
  rm -rf -- "$out/root" "$out/stubs"
}
