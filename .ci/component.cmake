# One helper makes everything a component consists of: a static library, its programs, its unit tests
# and its fuzz targets. Adding a test is one word.
#
#   dbx_component(shim
#     SOURCES  sandbox.c pool.c ...     -> library shim-core
#     DEPS     dbx-proto PkgConfig::X   -> what it links
#     PROGRAMS devbox-shim=main.c       -> one program each, linked with the library
#     TESTS    sandbox pool             -> tests/test_sandbox.c, ctest "shim/sandbox"
#     FUZZ     reply)                   -> fuzz/fuzz_reply.c and fuzz/corpus/reply/*, ctest "shim/fuzz_reply"
#
# dbx_library(dbx-base ...) is the same for a layer of common/, whose library keeps the given name.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

add_library(dbx-flags INTERFACE)
target_include_directories(dbx-flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_definitions(dbx-flags INTERFACE _GNU_SOURCE DBX_VERSION="${PROJECT_VERSION}")
target_compile_options(dbx-flags INTERFACE
    -Wall -Wextra -Wshadow -Wpointer-arith -Wundef -Wvla -Wformat=2 -Wno-format-nonliteral
    -Werror=missing-prototypes -Werror=strict-prototypes -Werror=implicit-function-declaration
    -Werror=incompatible-pointer-types -Werror=int-conversion -Werror=return-type -Werror=vla
    -fno-omit-frame-pointer -fstack-protector-strong)
if(DBX_WERROR)
    target_compile_options(dbx-flags INTERFACE -Werror)
endif()
if(DBX_ASAN)
    target_compile_options(dbx-flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
    target_link_options(dbx-flags INTERFACE -fsanitize=address,undefined)
else()
    target_compile_options(dbx-flags INTERFACE $<$<CONFIG:RelWithDebInfo>:-D_FORTIFY_SOURCE=2>)
    target_link_options(dbx-flags INTERFACE -Wl,-z,relro,-z,now)
endif()
if(DBX_FUZZ)
    target_compile_options(dbx-flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(dbx_add dir)
    string(REGEX REPLACE "/.*" "" top ${dir})
    if(NOT EXISTS ${CMAKE_SOURCE_DIR}/${dir}/CMakeLists.txt)
        return()
    endif()
    if(DBX_ONLY AND NOT top STREQUAL "common" AND NOT top IN_LIST DBX_ONLY)
        return()
    endif()
    add_subdirectory(${dir})
endfunction()

function(dbx_library lib)
    cmake_parse_arguments(C "" "" "SOURCES;DEPS;PROGRAMS;TESTS;FUZZ" ${ARGN})
    file(RELATIVE_PATH area ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
    string(REPLACE "/" "_" id ${area})
    add_library(${lib} STATIC ${C_SOURCES})
    target_link_libraries(${lib} PUBLIC dbx-flags ${C_DEPS})

    foreach(program ${C_PROGRAMS})
        string(REGEX MATCH "^([^=]+)=(.+)$" _ ${program})
        add_executable(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
        target_link_libraries(${CMAKE_MATCH_1} PRIVATE ${lib})
    endforeach()

    foreach(test ${C_TESTS})
        set(target test_${id}_${test})
        add_executable(${target} tests/test_${test}.c)
        target_link_libraries(${target} PRIVATE ${lib})
        add_test(NAME ${area}/${test} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
        set_tests_properties(${area}/${test} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 60)
    endforeach()

    foreach(fuzz ${C_FUZZ})
        set(target fuzz_${id}_${fuzz})
        set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${fuzz})
        if(DBX_FUZZ)
            add_executable(${target} fuzz/fuzz_${fuzz}.c)
            target_link_options(${target} PRIVATE -fsanitize=fuzzer)
            add_test(NAME ${area}/fuzz_${fuzz} COMMAND ${target} -runs=0 ${corpus})
        else()
            add_executable(${target} fuzz/fuzz_${fuzz}.c ${CMAKE_SOURCE_DIR}/tests/unit/fuzz_replay.c)
            add_test(NAME ${area}/fuzz_${fuzz} COMMAND ${target} ${corpus})
        endif()
        target_link_libraries(${target} PRIVATE ${lib})
        # a source's options come last on the command line, behind those of dbx-flags
        set_source_files_properties(fuzz/fuzz_${fuzz}.c PROPERTIES
            COMPILE_OPTIONS "-Wno-missing-prototypes;-Wno-error=missing-prototypes")
        set_tests_properties(${area}/fuzz_${fuzz} PROPERTIES TIMEOUT 120)
    endforeach()
endfunction()

function(dbx_component name)
    dbx_library(${name}-core ${ARGN})
endfunction()
