# SPDX-License-Identifier: Apache-2.0
# A Linux kernel that checks itself (KASAN, UBSAN, lockdep, debugging of the DMA API and of objects, leaks, made-up failures), for
# trying kernel/lanepool_bridge in a whole host. Source it after log.sh, cache.sh, debs.sh, image.sh, host_image.sh, kernel_headers.sh.
#
# It is built from Debian's source package of $KASAN_VERSION with guest/host/kasan.config: the least that a whole host needs, 1400
# files, which takes two cores 15 minutes. $CACHE/hosts/kasan/{vmlinux,initramfs.img,release} is what whole hosts boot,
# $CACHE/hosts/kasan/headers what modules are built with (and where checkpatch.pl lies). Only 'script/bootstrap kasan' makes it,
# and only tests/hosts/bridge_kasan.py and script/checkpatch use it.

KASAN_VERSION=6.12
KASAN_SUITES=bookworm,bookworm-backports
# What the kernel's own build needs and this machine may lack; unpacked, not installed.
KASAN_TOOLS=(flex bison m4)

# install_kasan_kernel: leaves $CACHE/hosts/kasan. Needs the images of whole hosts.
install_kasan_kernel() {
  local kernel stamp dir
  kernel=$CACHE/kasan-kernel-$(content_hash "$ROOT/guest/host/kasan.config" "$LIB/kasan_kernel.sh")
  if [ ! -d "$kernel" ]; then
    build_kasan_kernel "$kernel.new"
    replace_dir "$kernel.new" "$kernel"
    forget_old 1 "$CACHE"/kasan-kernel-*/
  fi
  stamp=kasan-$(content_hash "$ROOT"/guest/{init,exec_service.cc,programs.list,stubs.list} "$ROOT"/guest/host/{packages.list,programs.list,kasan.config,kasan.modules} \
    "$LIB"/{image,kasan_kernel,debs}.sh "$LIB/stub_library.py")
  dir=$CACHE/hosts/$stamp
  if [ ! -e "$dir/initramfs.img" ]; then
    build_kasan_image "$kernel" "$dir.new"
    replace_dir "$dir.new" "$dir"
    forget_old 1 "$CACHE/hosts"/kasan-*/
  fi
  point_link "$CACHE/hosts/kasan" "$stamp"
}

# build_kasan_kernel OUT: makes the folder OUT with vmlinux, release, headers and lib/modules.
build_kasan_kernel() {
  local out=$1 work=$1/work deb
  rm -rf -- "$out"
  mkdir -p "$work"/{debs,tools,build}
  say "bringing the source of Linux $KASAN_VERSION (about 150 MB)"
  isolated_apt "$work/apt" "$KASAN_SUITES" || apt_failed "$work/apt" "the list of packages"
  download_debs "$work/apt" "$work/debs" "linux-source-$KASAN_VERSION" "${KASAN_TOOLS[@]}"
  for deb in "$work"/debs/*.deb; do
    case ${deb##*/} in
      linux-source-*)
        dpkg-deb --fsys-tarfile "$deb" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | xz -T0 -dc |
          tar -x -C "$work" || die "${deb##*/} cannot be unpacked"
        ;;
      *) dpkg-deb --extract "$deb" "$work/tools" ;;
    esac
  done
  mv "$work"/linux-source-* "$work/source"
  say "building Linux $KASAN_VERSION with its own checks (about 15 minutes; messages are in $work/log)"
  make_kasan_kernel "$work" "$out" </dev/null >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; die "Linux $KASAN_VERSION does not build" "see the messages above"; }
  rm -rf -- "$work"
}

# make_kasan_kernel WORK OUT: configures and builds what is in WORK/source.
make_kasan_kernel() (
  work=$1 out=$2 compiler=$(command -v gcc-12 || command -v gcc)
  ! command -v ccache >/dev/null || compiler="ccache $compiler"
  export PATH=$work/tools/usr/bin:$PATH BISON_PKGDATADIR=$work/tools/usr/share/bison M4=$work/tools/usr/bin/m4
  export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=lanepool KBUILD_BUILD_HOST=lanepool
  run=(nice make -C "$work/source" O="$work/build" CC="$compiler" -j"${LANEPOOL_JOBS:-$(nproc)}")
  "${run[@]}" KCONFIG_ALLCONFIG="$ROOT/guest/host/kasan.config" allnoconfig || exit
  # An option that another one is missing for is left out without a word.
  if grep '^CONFIG' "$ROOT/guest/host/kasan.config" | grep -vxFf "$work/build/.config"; then
    echo "these lines of guest/host/kasan.config are not taken"
    exit 1
  fi
  # What the kernel's own packages hold for building others' modules goes to headers.
  "${run[@]}" vmlinux modules &&
    "${run[@]}" INSTALL_MOD_PATH="$out" modules_install &&
    "${run[@]}" run-command KBUILD_RUN_COMMAND="\$(srctree)/scripts/package/install-extmod-build $out/headers" &&
    cp "$work/build/Module.symvers" "$out/headers/" &&
    strip --strip-debug -o "$out/vmlinux" "$work/build/vmlinux" &&
    cp "$work/build/include/config/kernel.release" "$out/release"
)

# build_kasan_image KERNEL OUT: makes the folder OUT with vmlinux, initramfs.img, release and headers.
build_kasan_image() {
  local kernel=$1 out=$2 work=$2/work userland
  userland=$CACHE/host-userland-$(content_hash "$ROOT/guest/host/packages.list" "$LIB/debs.sh")
  rm -rf -- "$out"
  mkdir -p "$work/stubs"
  make_root "$work/root"
  add_busybox "$userland" "$work/root"
  add_programs "$userland" "$work/root" "$work/stubs" "$ROOT"/guest/programs.list "$ROOT"/guest/host/programs.list
  add_modules "$kernel" "$work/root" "$(cat "$kernel/release")" "$ROOT/guest/host/kasan.modules"
  pack_root "$work/root" >"$out/initramfs.img"
  cp "$kernel"/{vmlinux,release} "$out/"
  ln -s "$kernel/headers" "$out/headers"
  rm -rf -- "$work"
  say "whole hosts that check themselves: kernel $(cat "$out/release")"
}
