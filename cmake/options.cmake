# SPDX-License-Identifier: Apache-2.0
# Compiler and linker options that every target shares.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(tl-expected REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)

add_library(lanepool_options INTERFACE)
target_compile_options(lanepool_options INTERFACE
    -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual -Wnull-dereference
    -fno-strict-aliasing)
target_compile_definitions(lanepool_options INTERFACE LANEPOOL_VERSION="${PROJECT_VERSION}")
target_include_directories(lanepool_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(lanepool_options INTERFACE Threads::Threads fmt::fmt tl::expected spdlog::spdlog nlohmann_json::nlohmann_json)
target_link_options(lanepool_options INTERFACE -fuse-ld=lld)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ 12 reports these inside its own library at -O2 and with sanitizers (GCC bugs 105562 and 105329).
    target_compile_options(lanepool_options INTERFACE -Wno-maybe-uninitialized -Wno-restrict -Wno-null-dereference)
endif()

if(LANEPOOL_SANITIZE STREQUAL "address")
    set(flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
        list(APPEND flags -fsanitize=fuzzer-no-link) # the fuzzers are built with the same objects as the tests
    endif()
elseif(LANEPOOL_SANITIZE STREQUAL "thread")
    set(flags -fsanitize=thread -fno-omit-frame-pointer -O1)
elseif(LANEPOOL_SANITIZE)
    message(FATAL_ERROR "LANEPOOL_SANITIZE is '${LANEPOOL_SANITIZE}': use address, thread or nothing")
endif()
if(LANEPOOL_SANITIZE)
    target_compile_options(lanepool_options INTERFACE ${flags})
    target_link_options(lanepool_options INTERFACE ${flags})
endif()

# What nearly every file includes, compiled once: it halves the time of a build.
function(lanepool_precompiled_headers target)
    target_link_libraries(${target} PRIVATE lanepool_options)
    target_precompile_headers(${target} PRIVATE <algorithm> <array> <chrono> <filesystem> <functional> <map> <memory>
        <mutex> <optional> <span> <string> <vector> <fmt/format.h> <spdlog/spdlog.h> <tl/expected.hpp> ${ARGN})
endfunction()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/precompiled.cc CONTENT "")
add_library(lanepool_precompiled OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
lanepool_precompiled_headers(lanepool_precompiled)
add_library(lanepool_precompiled_shared OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
set_target_properties(lanepool_precompiled_shared PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_compile_options(lanepool_precompiled_shared PRIVATE -fno-semantic-interposition)
lanepool_precompiled_headers(lanepool_precompiled_shared)
find_package(GTest REQUIRED)
add_library(lanepool_precompiled_tests OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
target_link_libraries(lanepool_precompiled_tests PRIVATE GTest::gmock)
lanepool_precompiled_headers(lanepool_precompiled_tests <gmock/gmock.h> <gtest/gtest.h>)
