# SPDX-License-Identifier: Apache-2.0
# kernel/lanepool_bridge for the kernels of whole hosts, and the drivers that tests use (of QEMU's edu, and of functions without a
# device), built with every warning an error. Source it after log.sh, cache.sh, kernel_headers.sh.
#
# $CACHE/bridge/VERSION/{lanepool_bridge,edu,bridge_driver}.ko is what tests/hosts loads.

BRIDGE_SOURCES=("$ROOT/kernel/lanepool_bridge" "$ROOT"/tests/hosts/{edu,bridge}_driver)

# install_bridge_modules: leaves $CACHE/bridge/{6.1,6.12}, building what is missing. Needs the images of whole hosts.
install_bridge_modules() {
  local source files=()
  for source in "${BRIDGE_SOURCES[@]}"; do files+=("$source"/{*.[ch],Kbuild}); done
  install_for_kernels bridge 6 "$(content_hash "${files[@]}" "$LIB"/{bridge_module,kernel_headers}.sh)" build_bridge_modules
}

# build_bridge_modules VERSION SUITES RELEASE OUT: leaves the modules in the folder OUT.
build_bridge_modules() {
  local version=$1 release=$3 out=$4 source work
  say "building lanepool_bridge for Linux $release"
  for source in "${BRIDGE_SOURCES[@]}"; do
    work=$out/${source##*/}
    mkdir "$work"
    cp "$source"/{*.[ch],Kbuild} "$work/"
    build_modules "$version" "$release" "$work" W=1 KCFLAGS=-Werror
    mv "$work"/*.ko "$out/"
    rm -rf -- "$work"
  done
}
