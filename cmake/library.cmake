# SPDX-License-Identifier: Apache-2.0
include(GoogleTest)

# Builds all tests and fuzzers, and those of the tests that have threads: what script/test runs under
# AddressSanitizer and under ThreadSanitizer. Neither needs the command line and the benches.
add_custom_target(all_tests)
add_custom_target(thread_tests)

# A test program's tests, one by one, with a time limit; labelled when they are for ThreadSanitizer too. All suites that
# are instantiated as `Seeds` are one test: thousands of seeds need no process each, and what fails says its seed.
function(lanepool_discover_tests program threaded prefix)
    set(label)
    if(NOT program STREQUAL "cli_test") # the command line takes longest to build; script/test has a plain one
        add_dependencies(all_tests ${program})
    endif()
    if(threaded)
        set(label LABELS thread)
        add_dependencies(thread_tests ${program})
    endif()
    gtest_discover_tests(${program} TEST_PREFIX ${prefix} TEST_FILTER -Seeds/* DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 120 ${label})
    get_target_property(sources ${program} SOURCES)
    foreach(source ${sources})
        file(STRINGS ${source} seeds REGEX "(^ *|\\()Seeds, ")
        if(seeds)
            add_test(NAME ${prefix}Seeds COMMAND ${program} --gtest_brief=1 --gtest_filter=Seeds/*)
            set_tests_properties(${prefix}Seeds PROPERTIES TIMEOUT 300 ${label})
            break()
        endif()
    endforeach()
endfunction()

# lanepool_library(NAME DEPENDS a b c LIBRARIES fmt::fmt ...)
#
# The folder's library `lanepool_NAME` from every *.cc beside the call, and one test program `NAME_test` from
# every *_test.cc. DEPENDS names the folders that this one may include: script/check-includes reads the same
# lines, so the build and the check cannot disagree. THREADED: its tests also run under ThreadSanitizer. SHARED: it is
# part of a shared library, too, so its code must not depend on where it lies.
function(lanepool_library name)
    cmake_parse_arguments(arg "THREADED;SHARED" "" "DEPENDS;LIBRARIES;TEST_LIBRARIES" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS *.cc)
    set(tests ${sources})
    list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
    list(FILTER tests INCLUDE REGEX "_test\\.cc$")
    if(sources)
        add_library(lanepool_${name} STATIC ${sources})
        if(arg_SHARED)
            set_target_properties(lanepool_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
            target_compile_options(lanepool_${name} PRIVATE -fno-semantic-interposition) # calls within it stay direct
            target_precompile_headers(lanepool_${name} REUSE_FROM lanepool_precompiled_shared)
        else()
            target_precompile_headers(lanepool_${name} REUSE_FROM lanepool_precompiled)
        endif()
        set(scope PUBLIC)
    else()
        add_library(lanepool_${name} INTERFACE)
        set(scope INTERFACE)
    endif()
    list(TRANSFORM arg_DEPENDS PREPEND lanepool_)
    target_link_libraries(lanepool_${name} ${scope} lanepool_options ${arg_DEPENDS} ${arg_LIBRARIES})
    if(tests)
        add_executable(${name}_test ${tests})
        target_link_libraries(${name}_test PRIVATE lanepool_${name} ${arg_TEST_LIBRARIES} GTest::gmock GTest::gtest_main)
        target_precompile_headers(${name}_test REUSE_FROM lanepool_precompiled_tests)
        lanepool_discover_tests(${name}_test "${arg_THREADED}" ${name}.)
    endif()
endfunction()
