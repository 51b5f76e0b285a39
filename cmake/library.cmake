# SPDX-License-Identifier: Apache-2.0
include(GoogleTest)
find_package(GTest REQUIRED)

# lanepool_library(NAME DEPENDS a b c LIBRARIES fmt::fmt ...)
#
# The folder's library `lanepool_NAME` from every *.cc beside the call, and one test program `NAME_test` from
# every *_test.cc. DEPENDS names the folders that this one may include: script/check-includes reads the same
# lines, so the build and the check cannot disagree.
function(lanepool_library name)
    cmake_parse_arguments(arg "" "" "DEPENDS;LIBRARIES;TEST_LIBRARIES" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS *.cc)
    set(tests ${sources})
    list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
    list(FILTER tests INCLUDE REGEX "_test\\.cc$")
    if(sources)
        add_library(lanepool_${name} STATIC ${sources})
        set(scope PUBLIC)
    else()
        add_library(lanepool_${name} INTERFACE)
        set(scope INTERFACE)
    endif()
    list(TRANSFORM arg_DEPENDS PREPEND lanepool_)
    target_link_libraries(lanepool_${name} ${scope} lanepool_options ${arg_DEPENDS} ${arg_LIBRARIES})
    if(tests AND NOT LANEPOOL_SANITIZE STREQUAL "fuzzer")
        add_executable(${name}_test ${tests})
        target_link_libraries(${name}_test PRIVATE lanepool_${name} ${arg_TEST_LIBRARIES} GTest::gmock GTest::gtest_main)
        gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 120)
    endif()
endfunction()
