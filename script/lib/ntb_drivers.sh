# SPDX-License-Identifier: Apache-2.0
# Linux's own NTB drivers and the kernel's test of them, as outside judges of the virtual switch. Source it after log.sh,
# cache.sh, debs.sh, image.sh, host_image.sh.
#
# Debian's kernels have them switched off, so they are built out of tree, from Debian's source package of the very
# version that whole hosts boot and against its headers. Nothing of the kernel's is part of this project: it is brought,
# built and kept in the cache. $CACHE/ntb-drivers/VERSION/layer.img is what is used: an archive that goes behind a whole
# host's initramfs, with the modules, ntb_test.sh and what that needs. docs/linux-ntb-drivers.md tells how it is used.

NTB_MODULES=(switchtec ntb ntb_hw_switchtec ntb_transport ntb_netdev ntb_tool ntb_pingpong ntb_perf ntb_msi_test)
# What is taken out of the source package, which is large.
NTB_SOURCES=(drivers/ntb drivers/pci/switch drivers/net/ntb_netdev.c tools/testing/selftests/ntb)
# What ntb_test.sh needs beside the programs of whole hosts.
NTB_TEST_PACKAGES=(bash libtinfo6 diffutils)

# install_ntb_drivers: leaves $CACHE/ntb-drivers/{6.1,6.12}, building what is missing. Needs the images of whole hosts.
install_ntb_drivers() {
  install_for_kernels ntb-drivers 2 "$(content_hash "$LIB"/{ntb_drivers,kernel_headers}.sh)" build_ntb_layer
}

# build_ntb_layer VERSION SUITES RELEASE OUT: leaves layer.img and release in the folder OUT.
build_ntb_layer() {
  local version=$1 suites=$2 release=$3 out=$4 work=$4/work layer=$4/work/layer
  local modules=$layer/lib/modules/$release/updates module
  mkdir -p "$work"/{debs,tree} "$modules" "$layer"/{bin,usr/bin,lib/x86_64-linux-gnu,root,etc/modprobe.d}
  say "bringing the source of Linux $release (about 150 MB)"
  find_kernel_packages "$work/apt" "$suites" "$release"
  download_debs "$work/apt" "$work/debs" "linux-source-$version=$KERNEL_PACKAGES" "${NTB_TEST_PACKAGES[@]/%//${suites%%,*}}"
  say "building the NTB drivers of Linux $release"
  unpack_ntb_debs "$work/debs" "$work/tree"
  build_ntb_modules "$work/tree" "$version" "$release"

  for module in "${NTB_MODULES[@]}"; do
    find "$work/tree/build" -name "$module.ko" -exec cp {} "$modules/" \;
    [ -e "$modules/$module.ko" ] || die "building made no $module.ko of Linux $release" "see script/lib/ntb_drivers.sh"
  done
  # By default the driver has no small windows, and ntb_msi_test needs one.
  printf 'options ntb_hw_switchtec use_lut_mws=1\n' >"$layer/etc/modprobe.d/ntb.conf"
  cp "$work"/tree/linux-source-*/tools/testing/selftests/ntb/ntb_test.sh "$layer/root/"
  cp "$work/tree/bin/bash" "$layer/bin/"
  cp "$work/tree/usr/bin/cmp" "$layer/usr/bin/"
  cp -L "$work"/tree/{usr/,}lib/x86_64-linux-gnu/libtinfo.so.6 "$layer/lib/x86_64-linux-gnu/" 2>/dev/null ||
    [ -e "$layer/lib/x86_64-linux-gnu/libtinfo.so.6" ] || die "bash's library libtinfo.so.6 is not in libtinfo6"
  pack_root "$layer" >"$out/layer.img"
  printf '%s\n' "$release" >"$out/release"
  rm -rf -- "$work"
}

# unpack_ntb_debs DEBS TREE: all packages; of the kernel's source only what is wanted.
unpack_ntb_debs() {
  local deb tree=$2
  for deb in "$1"/*.deb; do
    case ${deb##*/} in
      linux-source-*)
        dpkg-deb --fsys-tarfile "$deb" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | xz -dc |
          tar -x -C "$tree" --wildcards "${NTB_SOURCES[@]/#/linux-source-*/}" ||
          die "${deb##*/} does not hold ${NTB_SOURCES[*]}" "see script/lib/ntb_drivers.sh"
        ;;
      *) dpkg-deb --extract "$deb" "$tree" ;;
    esac
    rm -- "$deb"
  done
}

# build_ntb_modules TREE VERSION RELEASE: leaves the modules somewhere in TREE/build.
build_ntb_modules() {
  local tree=$1 option options=()
  mkdir "$tree/build"
  cp -r "$tree"/linux-source-*/drivers/{ntb,pci/switch,net/ntb_netdev.c} "$tree/build/"
  printf 'obj-y += switch/ ntb/\nobj-m += ntb_netdev.o\n' >"$tree/build/Kbuild"
  for option in NTB NTB_TRANSPORT NTB_SWITCHTEC NTB_PINGPONG NTB_TOOL NTB_PERF NTB_MSI_TEST PCI_SW_SWITCHTEC; do
    options+=("CONFIG_$option=m")
  done
  build_modules "$2" "$3" "$tree/build" "${options[@]}" CONFIG_NTB_MSI=y KCFLAGS=-DCONFIG_NTB_MSI=1
}
