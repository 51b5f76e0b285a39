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
  local entry version suites release stamp dir
  mkdir -p "$CACHE/ntb-drivers"
  for entry in "${HOST_KERNELS[@]}"; do
    read -r version suites <<<"$entry"
    release=$(cat "$CACHE/hosts/$version/release")
    stamp=$release-$(content_hash "$LIB/ntb_drivers.sh")
    dir=$CACHE/ntb-drivers/$stamp
    if [ ! -e "$dir/layer.img" ]; then
      build_ntb_layer "$version" "$suites" "$release" "$dir.new"
      replace_dir "$dir.new" "$dir"
      forget_old 2 "$CACHE/ntb-drivers/$version."*-*/
    fi
    if [ "$(readlink "$CACHE/ntb-drivers/$version" 2>/dev/null)" != "$stamp" ]; then
      ln -sfn "$stamp" "$CACHE/ntb-drivers/.$version.new"
      mv -T -- "$CACHE/ntb-drivers/.$version.new" "$CACHE/ntb-drivers/$version"
    fi
  done
}

# build_ntb_layer VERSION SUITES RELEASE OUT: makes the folder OUT with layer.img and release.
build_ntb_layer() {
  local version=$1 suites=$2 release=$3 out=$4 work=$4/work layer=$4/work/layer
  local modules=$layer/lib/modules/$release/updates module
  rm -rf -- "$out"
  mkdir -p "$work"/{debs,tree} "$modules" "$layer"/{bin,usr/bin,lib/x86_64-linux-gnu,root,etc/modprobe.d}
  say "bringing headers and source of Linux $release (about 150 MB)"
  download_ntb_debs "$version" "$suites" "$release" "$work/debs"
  say "building the NTB drivers of Linux $release"
  unpack_ntb_debs "$work/debs" "$work/tree"
  build_ntb_modules "$work/tree" "$release"

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

# download_ntb_debs VERSION SUITES RELEASE DEST: the packages, without what they depend on: this machine compiles.
download_ntb_debs() {
  local version=$1 suites=$2 release=$3 dest=$4 work=$4/apt suite debian package mirror packages=()
  mirror=$(debian_mirror)
  mkdir -p "$work"/{lists/partial,archives/partial}
  : >"$work/status"
  for suite in ${suites//,/ }; do
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite"
  done >"$work/sources.list"
  local options=(
    -q -o Dir::State="$work" -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
    -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives"
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Acquire::Languages=none
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3
  )
  apt-get "${options[@]}" update </dev/null >"$work/log" 2>&1 ||
    { tail -n 15 "$work/log" >&2; die "apt-get could not read $suites at $mirror" "check the network"; }
  debian=$(apt-cache "${options[@]}" show "linux-headers-$release" 2>/dev/null | awk '$1 == "Version:" { print $2; exit }')
  [ -n "$debian" ] || die "Debian no longer has headers of Linux $release" \
    "remove $CACHE/host-kernel-$version-* and $CACHE/hosts, and run script/bootstrap: it brings the present kernel"
  # They name the other packages: those that all flavours of this kernel share, and the programs that compile.
  for package in $(apt-cache "${options[@]}" depends "linux-headers-$release=$debian" |
    awk '$1 == "Depends:" && $2 ~ /^linux-(headers|kbuild)-/ { print $2 }'); do
    packages+=("$package=$debian")
  done
  (cd "$dest" && apt-get "${options[@]}" download "linux-headers-$release=$debian" "${packages[@]}" \
    "linux-source-$version=$debian" "${NTB_TEST_PACKAGES[@]/%//${suites%%,*}}" </dev/null >"$work/log" 2>&1) ||
    { tail -n 15 "$work/log" >&2; die "could not bring headers and source of Linux $release from $mirror" "check the network"; }
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

# build_ntb_modules TREE RELEASE: leaves the modules somewhere in TREE/build.
build_ntb_modules() {
  local tree=$1 headers=$1/usr/src/linux-headers-$2 log=$1/build.log compiler option options=()
  mkdir "$tree/build"
  cp -r "$tree"/linux-source-*/drivers/{ntb,pci/switch,net/ntb_netdev.c} "$tree/build/"
  printf 'obj-y += switch/ ntb/\nobj-m += ntb_netdev.o\n' >"$tree/build/Kbuild"
  # The headers name their own place in the file system, where they are not.
  sed -i "s,/usr/src,$tree/usr/src," "$headers/Makefile"
  for option in NTB NTB_TRANSPORT NTB_SWITCHTEC NTB_PINGPONG NTB_TOOL NTB_PERF NTB_MSI_TEST PCI_SW_SWITCHTEC; do
    options+=("CONFIG_$option=m")
  done
  # What this kernel was built with, if it is there; debug information would be most of what the guest loads.
  compiler=$(command -v gcc-12 || command -v gcc)
  make -C "$headers" M="$tree/build" CC="$compiler" -j"$(nproc)" "${options[@]}" CONFIG_NTB_MSI=y \
    KCFLAGS=-DCONFIG_NTB_MSI=1 CONFIG_DEBUG_INFO= CONFIG_DEBUG_INFO_BTF_MODULES= modules </dev/null >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "the NTB drivers of Linux $2 do not build with $compiler" "see the messages above"; }
}
