# SPDX-License-Identifier: Apache-2.0
# For programs outside of this tree: `cmake --install build --prefix DIR`, then `pkg-config lanepool-smartio` with
# PKG_CONFIG_PATH=DIR/lib64/pkgconfig.

# All that the header needs lies below include/lanepool, where no other project's files are: includes are written anew.
foreach(header base/mapping base/result base/unique_fd lanepool/device lanepool/interrupt lanepool/segment
        lanepool/session lanepool/smartio)
    set(source ${PROJECT_SOURCE_DIR}/src/${header}.h)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(READ ${source} text)
    string(REGEX REPLACE "#include \"lanepool/([a-z_]+)\\.h\"" "#include <lanepool/\\1.h>" text "${text}")
    string(REGEX REPLACE "#include \"base/([a-z_]+)\\.h\"" "#include <lanepool/base/\\1.h>" text "${text}")
    string(REGEX REPLACE "^lanepool/" "" place ${header})
    file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/include/lanepool/${place}.h CONTENT "@text@" @ONLY)
endforeach()
install(DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/include/ DESTINATION include)

# One archive: the folders below are of no use to anybody else, and may change.
add_library(lanepool_smartio_archive STATIC $<TARGET_OBJECTS:lanepool_base> $<TARGET_OBJECTS:lanepool_io>
    $<TARGET_OBJECTS:lanepool_session> $<TARGET_OBJECTS:lanepool_client>)
set_target_properties(lanepool_smartio_archive PROPERTIES OUTPUT_NAME lanepool-smartio)
install(TARGETS lanepool_smartio_archive ARCHIVE DESTINATION lib64)

file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/lanepool-smartio.pc @ONLY CONTENT [[
prefix=${pcfiledir}/../..
includedir=${prefix}/include
libdir=${prefix}/lib64

Name: lanepool-smartio
Description: Remote memory, interrupts and PCI devices of a lanepool, for programs in C++20
Version: @PROJECT_VERSION@
Requires: fmt
Cflags: -I${includedir} -pthread
Libs: -L${libdir} -llanepool-smartio -pthread
]])
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lanepool-smartio.pc DESTINATION lib64/pkgconfig)
